/** Neighbouring bins differ by 4 %, so the middle of a bin is within 2 % of every value in it. */
const BASE = 1.04;
/** Keeps the bins of tiny values positive: the smallest double is bin -18998 + 20000. */
const OFFSET = 20_000;

/** The value that stands for a bin of `telemetry_bin` (the SQL function that sorts values into bins), at most 2 % off. */
export function valueOfBin(bin: number): number {
  if (bin === 0) return 0;
  const exponent = Math.abs(bin) - OFFSET;
  return (Math.sign(bin) * (2 * BASE ** exponent)) / (1 + BASE);
}

/** The `p`-th percentile (0..100, nearest rank) of counted bins, which must be in ascending order. */
export function percentileOfBins(bins: readonly { bin: number; count: number }[], p: number): number {
  const total = bins.reduce((sum, { count }) => sum + count, 0);
  const rank = Math.max(1, Math.ceil((p / 100) * total));
  let seen = 0;
  for (const { bin, count } of bins) {
    seen += count;
    if (seen >= rank) return valueOfBin(bin);
  }
  return NaN;
}
