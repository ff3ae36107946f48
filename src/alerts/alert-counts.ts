/** Further events for which the condition of an open alert held. */
export interface Repeats {
  alertId: string;
  count: number;
  lastValue: number | null;
  /** Time of the newest, ms since 1970. */
  lastTs: number;
}

type Query = (sql: string, params: unknown[]) => Promise<unknown>;

/** Adds to the counts of open alerts; those that have ended meanwhile are left alone. */
export async function addRepeats(query: Query, repeats: readonly Repeats[]): Promise<void> {
  if (repeats.length === 0) return;
  const records = repeats.map((r) => ({ id: r.alertId, n: r.count, v: r.lastValue, t: new Date(r.lastTs) }));
  await query(
    `UPDATE alerts a SET count = a.count + u.n,
       last_value = CASE WHEN u.t >= a.last_at THEN u.v ELSE a.last_value END, last_at = greatest(a.last_at, u.t)
     FROM jsonb_to_recordset($1) AS u (id uuid, n bigint, v double precision, t timestamptz)
     WHERE a.id = u.id AND a.status = 'active'`,
    [JSON.stringify(records)],
  );
}
