import { bucketOf, RESOLUTIONS, type Resolution } from './resolutions.js';

/** A stretch of time, `[from, to)` in ms, and what to read it from: rollups of a resolution, or raw events (0). */
export interface Segment {
  resolution: Resolution | 0;
  from: number;
  to: number;
}

/** Starts (ms) of the buckets of each resolution that wait to be rolled up. */
export type DirtyBuckets = ReadonlyMap<Resolution, readonly number[]>;

/**
 * Splits `[from, to)`, whole buckets of `resolution`, into what its rollups can be trusted for and the rest, which is read
 * from the next finer rollups and in the end from the raw events. So an answer holds the last second and late data at once,
 * however far the rolling up is behind. `keptSince` says from when on rollups of a resolution are whole (ms).
 */
export function segmentsOf(
  resolution: Resolution,
  from: number,
  to: number,
  dirty: DirtyBuckets,
  keptSince: (resolution: Resolution) => number,
): Segment[] {
  const level = RESOLUTIONS.indexOf(resolution);
  const width = resolution * 1000;
  const untrusted = new Set<number>();
  for (const finer of RESOLUTIONS.slice(0, level + 1)) {
    for (const start of dirty.get(finer) ?? []) {
      const bucket = bucketOf(start, resolution);
      if (bucket >= from && bucket < to) untrusted.add(bucket);
    }
  }
  const segments: Segment[] = [];
  let at = from;
  const starts = [...untrusted].sort((a, b) => a - b);
  for (let i = 0; i < starts.length; i++) {
    const start = starts[i];
    while (starts[i + 1] === starts[i] + width) i++;
    const stop = starts[i] + width;
    if (start > at) segments.push({ resolution, from: at, to: start });
    const finer = level > 0 ? RESOLUTIONS[level - 1] : undefined;
    if (finer !== undefined && start >= keptSince(finer)) {
      segments.push(...segmentsOf(finer, start, stop, dirty, keptSince));
    } else {
      segments.push({ resolution: 0, from: start, to: stop });
    }
    at = stop;
  }
  if (at < to) segments.push({ resolution, from: at, to });
  return segments;
}
