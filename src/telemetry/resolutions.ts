import type { Settings } from '../platform/config/index.js';

export const DAY_MS = 86_400_000;

/** Widths of rollup buckets in seconds, finest first: each divides the next, and each but the first is made of the one before. */
export const RESOLUTIONS = [60, 300, 3600, 86_400] as const;
export type Resolution = (typeof RESOLUTIONS)[number];

/** Days that rollups of a resolution are kept. */
export function keepDays(settings: Settings, resolution: Resolution): number {
  switch (resolution) {
    case 60:
      return settings.telemetryRollup1mDays;
    case 300:
      return settings.telemetryRollup5mDays;
    case 3600:
      return settings.telemetryRollup1hDays;
    case 86_400:
      return settings.telemetryRollup1dDays;
  }
}

/** Start of the bucket that holds a time, both in ms. */
export function bucketOf(ms: number, seconds: number): number {
  const width = seconds * 1000;
  return Math.floor(ms / width) * width;
}
