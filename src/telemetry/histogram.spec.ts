import { describe, expect, it } from 'vitest';
import { percentileOfBins, valueOfBin } from './histogram.js';

const binOf = (v: number): number =>
  v === 0 ? 0 : Math.sign(v) * (Math.ceil(Math.log(Math.abs(v)) / Math.log(1.04)) + 20_000);

describe('histogram bins', () => {
  it('stand for their values within 2 %, from the smallest to the largest and below zero', () => {
    for (const v of [5e-300, 1e-9, 0.04, 1, 1.0399, 45.2, 99.99, 12_345_678, 1e299]) {
      expect(Math.abs(valueOfBin(binOf(v)) / v - 1)).toBeLessThan(0.02);
      expect(valueOfBin(binOf(-v))).toBe(-valueOfBin(binOf(v)));
    }
    expect(valueOfBin(0)).toBe(0);
  });

  it('give percentiles by nearest rank over negative, zero and positive values', () => {
    const values = [-100, -1, 0, 0, 1, 2, 4, 8, 16, 1000];
    const bins = values.map((v) => ({ bin: binOf(v), count: 1 }));
    expect(percentileOfBins(bins, 10)).toBeCloseTo(-100, -1);
    expect(percentileOfBins(bins, 40)).toBe(0);
    expect(Math.abs(percentileOfBins(bins, 50) - 1)).toBeLessThan(0.02);
    expect(Math.abs(percentileOfBins(bins, 99) / 1000 - 1)).toBeLessThan(0.02);
  });
});
