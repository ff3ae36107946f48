/** About how many bytes of large columns one page may have. The row that goes beyond this is the last of the page. */
export const PAGE_BYTES = 4 * 1024 * 1024;

/** What {@link withinPageBytes} adds to each row. */
export interface SizedRow {
  /** Bytes of the large columns up to and including this row. */
  bytes_until: number;
  /** Rows that the query found, including those that were cut off. */
  found_rows: number;
}

/**
 * SQL that returns the first rows of `query` (which is ordered by `order`) until their `columns`, as text, fill `room`. So the database
 * sends no more than that, however large the rows are.
 */
export function withinPageBytes(query: string, columns: string[], order: string, room = PAGE_BYTES): string {
  const size = columns.map((column) => `coalesce(octet_length(${column}::text), 0)`).join(' + ');
  return `SELECT * FROM (
      SELECT *, sum(row_bytes) OVER (ORDER BY ${order})::float8 AS bytes_until, count(*) OVER ()::int AS found_rows
      FROM (SELECT *, ${size} AS row_bytes FROM (${query}) AS found) AS sized
    ) AS summed
    WHERE bytes_until - row_bytes < ${room} ORDER BY ${order}`;
}

/** The rows of a page of `limit` rows and whether more follow. The query must have asked for one row more. */
export function shownOf<Row extends SizedRow>(
  found: readonly Row[],
  limit: number,
): { shown: Row[]; hasMore: boolean } {
  const shown = found.slice(0, limit);
  return { shown, hasMore: (found.at(0)?.found_rows ?? 0) > shown.length };
}
