import type { TelemetrySettings } from './telemetry.settings.js';

export const DAY_MS = 86_400_000;

/** Widths of rollup buckets in seconds, finest first: each divides the next, and each but the first is made of the one before. */
export const RESOLUTIONS = [60, 300, 3600, 86_400] as const;
export type Resolution = (typeof RESOLUTIONS)[number];

/** Days that rollups of a resolution are kept. */
export function keepDays(settings: TelemetrySettings, resolution: Resolution): number {
  switch (resolution) {
    case 60:
      return settings.rollup1mDays;
    case 300:
      return settings.rollup5mDays;
    case 3600:
      return settings.rollup1hDays;
    case 86_400:
      return settings.rollup1dDays;
  }
}

/** Start of the oldest day that has a partition of its own, ms. From here on all events are stored. */
export function dailySince(settings: TelemetrySettings, now: number): number {
  return bucketOf(now - settings.retentionDays * DAY_MS, 86_400);
}

/**
 * Days that rollups of a resolution are stored, one more than promised: a coarser bucket that began before the limit is still
 * built from whole finer ones.
 */
export function storedDays(settings: TelemetrySettings, resolution: Resolution): number {
  return keepDays(settings, resolution) + 1;
}

/** Start of the bucket that holds a time, both in ms. */
export function bucketOf(ms: number, seconds: number): number {
  const width = seconds * 1000;
  return Math.floor(ms / width) * width;
}
