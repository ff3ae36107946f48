/** What failed, by the SQLSTATE of PostgreSQL or the error of its driver. */
export type DatabaseErrorKind =
  | 'unique_violation'
  | 'foreign_key_violation'
  | 'check_violation'
  | 'bad_data'
  | 'transaction_conflict'
  | 'lock_timeout'
  | 'statement_timeout'
  | 'disk_full'
  | 'no_writes'
  | 'too_many_connections'
  | 'unavailable'
  | 'connection_lost';

/** The first that matches counts. */
const BY_CODE: [code: RegExp, kind: DatabaseErrorKind][] = [
  [/^23505$/, 'unique_violation'],
  [/^23503$/, 'foreign_key_violation'],
  [/^23514$/, 'check_violation'],
  [/^22...$/, 'bad_data'],
  // Serialization failure and deadlock: the whole transaction may be tried again.
  [/^(40001|40P01)$/, 'transaction_conflict'],
  [/^55P03$/, 'lock_timeout'],
  [/^57014$/, 'statement_timeout'],
  [/^53100$/, 'disk_full'],
  // It is read-only, out of memory, or cannot use its files.
  [/^(25006|53200|58030)$/, 'no_writes'],
  [/^53300$/, 'too_many_connections'],
  // It is starting, stopping or overloaded.
  [/^(08|53|57)...$/, 'unavailable'],
  [/^(ECONN[A-Z]+|EPIPE|ETIMEDOUT)$/, 'connection_lost'],
];

/** Messages of the driver that come without a code: a connection could not be had or was cut. */
const CONNECTION_LOST =
  /ECONNREFUSED|ECONNRESET|EPIPE|timeout exceeded when trying to connect|Connection terminated|not queryable|Cannot use a pool after/;

const TRANSIENT = new Set<DatabaseErrorKind | null>([
  'transaction_conflict',
  'lock_timeout',
  'statement_timeout',
  'disk_full',
  'no_writes',
  'too_many_connections',
  'unavailable',
  'connection_lost',
]);

/** The SQLSTATE of an error of the driver (TypeORM's error has it too), or the code of a broken connection; null without one. */
export function databaseErrorCode(error: unknown): string | null {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : null;
}

/** Null for an error that is not of the database or that nobody handles specially. */
export function databaseErrorKind(error: unknown): DatabaseErrorKind | null {
  const code = databaseErrorCode(error) ?? '';
  const found = BY_CODE.find(([pattern]) => pattern.test(code));
  if (found) return found[1];
  return error instanceof Error && CONNECTION_LOST.test(error.message) ? 'connection_lost' : null;
}

/** The same may succeed later: the database is away, busy or full, or has chosen another transaction to go first. */
export function isTransient(error: unknown): boolean {
  return TRANSIENT.has(databaseErrorKind(error));
}

/** The database refused a value (SQLSTATE classes 22 and 23): trying again cannot help, leaving the row out can. */
export function isDataError(error: unknown): boolean {
  return /^2[23]...$/.test(databaseErrorCode(error) ?? '');
}
