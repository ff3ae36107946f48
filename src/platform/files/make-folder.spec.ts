import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makeFolder } from './make-folder.js';

let lab: string;
beforeEach(() => void (lab = mkdtempSync(path.join(tmpdir(), 'nexus-folder-'))));
afterEach(() => rmSync(lab, { recursive: true, force: true }));

it('makes a folder with those above it, and says whether it is new', () => {
  const folder = path.join(lab, 'a/b/c');
  expect(makeFolder(folder, 0o700)).toBe(true);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(makeFolder(folder, 0o700)).toBe(false);
});

it('throws what the system says where none can be made', () => {
  writeFileSync(path.join(lab, 'file'), '');
  expect(() => makeFolder(path.join(lab, 'file', 'a', 'b'), 0o700)).toThrow('ENOTDIR');
});

it.skipIf(process.platform !== 'linux')('returns where the system denies that the folder above exists', () => {
  expect(() => makeFolder('/proc/nexus/a/b', 0o700)).toThrow('ENOENT');
});
