import { describe, expect, it } from 'vitest';
import { type Resolution } from './resolutions.js';
import { segmentsOf } from './segments.js';

const MIN = 60_000;
const dirty = (entries: [Resolution, number[]][]) => new Map(entries.map(([r, m]) => [r, m.map((x) => x * MIN)]));
const read = (...args: Parameters<typeof segmentsOf>) =>
  segmentsOf(...args).map((s) => [s.resolution, s.from / MIN, s.to / MIN]);

describe('segments of a query', () => {
  it('are one stretch when everything is rolled up', () => {
    expect(read(300, 0, 60 * MIN, new Map(), () => 0)).toEqual([[300, 0, 60]]);
  });

  it('go down to minutes and raw events where buckets wait', () => {
    const waiting = dirty([
      [60, [57, 58, 59]],
      [300, [50]],
    ]);
    expect(read(300, 0, 60 * MIN, waiting, () => 0)).toEqual([
      [300, 0, 50],
      [60, 50, 57],
      [0, 57, 60],
    ]);
  });

  it('read raw events where the finer rollups are no longer kept', () => {
    expect(read(300, 0, 60 * MIN, dirty([[60, [7]]]), () => 30 * MIN)).toEqual([
      [300, 0, 5],
      [0, 5, 10],
      [300, 10, 60],
    ]);
  });

  it('leave out what lies outside the range', () => {
    expect(read(60, 10 * MIN, 20 * MIN, dirty([[60, [5, 10, 25]]]), () => 0)).toEqual([
      [0, 10, 11],
      [60, 11, 20],
    ]);
  });
});
