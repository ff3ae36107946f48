import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from '../support/nexus-process.js';

const PLACES = ['src', 'packages', 'test', 'bench', 'docs', 'scripts', 'migrations', ':(glob)*.md'];

/** References to documents that are not in the repository: their readers could not look them up. */
const REFERENCES: readonly RegExp[] = [
  // Codes of one to four capitals, a hyphen and two digits. Names of public standards are allowed.
  /\b(?!(?:UTF|CRC|CWE)-)[A-Z]{1,4}-\d{2}\b/,
  /\bG\d{1,2}\b/,
  /\b[Rr]ules? \d/,
  /\(rows? [A-Z\d]/,
  /\bcontract \d|\b(?:of|in) the contract\b|\bthe contract says\b/,
];

const trackedFiles = (): string[] =>
  execFileSync('git', ['ls-files', '-z', '--', ...PLACES], { cwd: ROOT, encoding: 'utf8' })
    .split('\0')
    .filter((file) => file !== '' && existsSync(path.join(ROOT, file)));

const isReference = (line: string): boolean => REFERENCES.some((pattern) => pattern.test(line));

it('finds references by code and number, and allows public standards', () => {
  // Put together here, so that this file contains none itself.
  const codes = ['X', 'XYZ', 'WXYZ'].map((letters) => `(${letters}-${12})`);
  for (const text of [...codes, `(G${1})`, `rule ${1}`, `contract ${1.2}`]) expect(isReference(text), text).toBe(true);
  const standards = [
    'RFC 9457',
    'OWASP ASVS 5.0',
    'Standard Webhooks 1.0',
    'UTF-16',
    'SHA-256',
    'CWE-79',
    '2026-12-01',
  ];
  for (const text of standards) expect(isReference(text), text).toBe(false);
});

it('refers to nothing that the repository cannot resolve', () => {
  const files = trackedFiles();
  expect(files).toContain('README.md');
  const found = files.flatMap((file) =>
    readFileSync(path.join(ROOT, file), 'utf8')
      .split('\n')
      .flatMap((line, index) => (isReference(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
  );
  expect(found).toEqual([]);
});
