import { QueryFailedError } from 'typeorm';
import { describe, expect, it } from 'vitest';
import {
  databaseErrorCode,
  type DatabaseErrorKind,
  databaseErrorKind,
  isDataError,
  isTransient,
} from './database-error.js';

/** As the driver reports it. */
function failed(code: string): Error {
  return Object.assign(new Error('failed'), { code });
}

const KINDS: [code: string, kind: DatabaseErrorKind | null, nature?: 'transient' | 'data'][] = [
  ['23505', 'unique_violation', 'data'],
  ['23503', 'foreign_key_violation', 'data'],
  ['23514', 'check_violation', 'data'],
  ['23502', null, 'data'],
  ['22P05', 'bad_data', 'data'],
  ['40001', 'transaction_conflict', 'transient'],
  ['40P01', 'transaction_conflict', 'transient'],
  ['55P03', 'lock_timeout', 'transient'],
  ['57014', 'statement_timeout', 'transient'],
  ['53100', 'disk_full', 'transient'],
  ['25006', 'no_writes', 'transient'],
  ['53200', 'no_writes', 'transient'],
  ['58030', 'no_writes', 'transient'],
  ['53300', 'too_many_connections', 'transient'],
  ['57P01', 'unavailable', 'transient'],
  ['08006', 'unavailable', 'transient'],
  ['ECONNRESET', 'connection_lost', 'transient'],
  ['EPIPE', 'connection_lost', 'transient'],
  ['42P01', null],
  ['ENOENT', null],
];

describe('an error of the database', () => {
  it.each(KINDS)('with the code %s is %s', (code, kind, nature) => {
    for (const error of [failed(code), new QueryFailedError('SELECT 1', [], failed(code))]) {
      expect(databaseErrorCode(error)).toBe(code);
      expect(databaseErrorKind(error)).toBe(kind);
      expect(isTransient(error)).toBe(nature === 'transient');
      expect(isDataError(error)).toBe(nature === 'data');
    }
  });

  it('is known by its message where the driver gives no code', () => {
    for (const message of ['Connection terminated unexpectedly', 'timeout exceeded when trying to connect']) {
      expect(databaseErrorKind(new Error(message))).toBe('connection_lost');
      expect(databaseErrorKind(new QueryFailedError('SELECT 1', [], new Error(message)))).toBe('connection_lost');
    }
  });

  it('is none when something else failed', () => {
    for (const other of [null, undefined, 'text', 7, { code: 7 }, new TypeError('x is undefined')]) {
      expect([databaseErrorCode(other), databaseErrorKind(other)]).toEqual([null, null]);
    }
  });
});
