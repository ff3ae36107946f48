import type { EntityManager } from 'typeorm';
import type { SecurityAlert } from './security-alert.entity.js';
import type { SecuritySignal } from './security-signal.entity.js';

/** Details hold no secrets: they go to webhooks and streams. */
export type NewAlert = Pick<SecurityAlert, 'type' | 'subject' | 'severity' | 'message' | 'details' | 'occurrences'> & {
  /** Of `occurrences`, those that an alert raised before does not know yet. */
  fresh: number;
};

export type RaisedAlert = Omit<NewAlert, 'fresh'> & Pick<SecurityAlert, 'id' | 'createdAt'>;

/** The same goes on as one alert for so long after it was raised. */
const WINDOW = `interval '1 hour'`;
/** Subjects of one type within the window; the others share one more alert, so that many senders cannot fill the table. */
const MAX_SUBJECTS = 100;
const EVERYONE_ELSE = 'many';

/**
 * Adds to the alert that was raised for the same within the hour, or inserts a new one.
 * SQL: counts the subjects, chooses, adds and inserts in one statement. @returns the alert when it is new
 */
export async function addOrInsertAlert(db: EntityManager, alert: NewAlert): Promise<RaisedAlert | undefined> {
  const [raised] = await db.query<RaisedAlert[]>(
    `WITH recent AS MATERIALIZED (
       SELECT id, subject FROM security_alerts WHERE type = $1 AND created_at > now() - ${WINDOW}
     ), target AS (
       SELECT CASE WHEN $2 IN (SELECT subject FROM recent) OR (SELECT count(*) FROM recent) < ${MAX_SUBJECTS}
         THEN $2 ELSE '${EVERYONE_ELSE}' END AS subject
     ), known AS (
       UPDATE security_alerts a SET occurrences = a.occurrences + $6, last_seen_at = now()
       FROM recent r JOIN target USING (subject) WHERE a.id = r.id RETURNING a.id
     )
     INSERT INTO security_alerts (type, subject, severity, message, details, occurrences)
     SELECT $1, target.subject, $3, $4, $5, $7 FROM target WHERE NOT EXISTS (SELECT FROM known)
     RETURNING id, type, subject, severity, message, details, occurrences, created_at AS "createdAt"`,
    [alert.type, alert.subject, alert.severity, alert.message, alert.details, alert.fresh, alert.occurrences],
  );
  return raised;
}

/** Rows of the shared counts; past it a process counts what it sees itself within one flush. */
const MAX_SIGNALS = 20_000;

/**
 * Adds to the counts that all processes share. SQL: adds many rows, and sums up the window of each, in one statement.
 * @param signals with the minutes to look back
 * @returns for each of them how many there were within its window, these included
 */
export async function addSignals(
  db: EntityManager,
  signals: readonly (Pick<SecuritySignal, 'kind' | 'subject' | 'count'> & { minutes: number })[],
): Promise<number[]> {
  const totals = await db.query<{ total: number }[]>(
    `WITH s AS (
       SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::int[]) WITH ORDINALITY AS s (kind, subject, count, minutes, n)
     ), added AS (
       INSERT INTO security_signals AS t (kind, subject, minute, count)
       SELECT kind, subject, date_trunc('minute', now()), count FROM s
       WHERE (SELECT count(*) FROM security_signals) < ${MAX_SIGNALS}
       ON CONFLICT (kind, subject, minute) DO UPDATE SET count = t.count + excluded.count
     )
     SELECT (s.count + coalesce((
       -- As it was before this statement.
       SELECT sum(t.count) FROM security_signals t WHERE t.kind = s.kind AND t.subject = s.subject
         AND t.minute >= date_trunc('minute', now()) - s.minutes * interval '1 minute'), 0))::int AS total
     FROM s ORDER BY n`,
    [
      signals.map(({ kind }) => kind),
      signals.map(({ subject }) => subject),
      signals.map(({ count }) => count),
      signals.map(({ minutes }) => minutes),
    ],
  );
  return totals.map(({ total }) => total);
}
