/** Median of a list of measurements. */
export function median(values: number[]): number {
  return percentile(values, 50);
}

/** Nearest-rank percentile, `p` in 0..100. */
export function percentile(values: number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil((p / 100) * sorted.length) - 1))];
}

/** Prints one Markdown table; numbers with at most three significant decimals. */
export function printTable(head: string[], rows: (string | number)[][]): void {
  const text = (cell: string | number): string =>
    typeof cell === 'number' ? String(Math.abs(cell) >= 100 ? Math.round(cell) : Number(cell.toPrecision(3))) : cell;
  const line = (cells: (string | number)[]): string => `| ${cells.map(text).join(' | ')} |`;
  console.log([line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n'));
}
