import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const SOURCES = new URL('../../src/', import.meta.url);
/** Statements, and calls that send one as text. */
const SQL =
  /\b(SELECT\s|INSERT INTO|UPDATE \w+ (\w+ )?SET|DELETE FROM|TRUNCATE |LISTEN |NOTIFY )|\.query(<[^(]*>)?\(\s*[`'"]/;

/** Where SQL may stand: files of statements, and what looks after the server that holds the database. The list only shrinks. */
const ALLOWED = [
  /\.queries\.ts$/,
  /^platform\/database\//,
  // What a page may hold, added to a statement of a file of statements.
  /^platform\/http\/page-bytes\.ts$/,
  // LISTEN and NOTIFY.
  /^platform\/realtime\/bus-transports\.ts$/,
  // Ask the database about itself, before there is a data source.
  /^(preflight|pooler-check)\.ts$/,
];

it('SQL by hand stands only in files that say so', () => {
  const files = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.ts') && !file.endsWith('.spec.ts'),
  );
  const withSql = files.filter((file) => SQL.test(withoutComments(readFileSync(new URL(file, SOURCES), 'utf8'))));
  expect(withSql.filter((file) => !ALLOWED.some((allowed) => allowed.test(file)))).toEqual([]);
  expect(withSql.length).toBeLessThanOrEqual(MAX_FILES);
});

/** How many files have SQL today. */
const MAX_FILES = 33;

function withoutComments(source: string): string {
  return source.replace(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, '');
}
