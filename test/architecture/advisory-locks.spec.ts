import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { advisoryLock, LOCK_NAMES } from '../../src/platform/database/index.js';
import { ROOT } from '../support/nexus-process.js';

const grep = (...args: string[]): string[] =>
  execFileSync('git', ['grep', '-hoE', ...args, '--', 'src'], { cwd: ROOT, encoding: 'utf8' })
    .trim()
    .split('\n');

it('gives every advisory lock a number of its own, taken in one place', () => {
  expect(new Set(LOCK_NAMES.map((name) => advisoryLock(name))).size).toBe(LOCK_NAMES.length);
  for (const name of LOCK_NAMES) expect(advisoryLock(name)).toMatch(/^-?\d{10,19}$/);
  const used = grep("(advisoryLock\\(|takeLock\\(tx, |lock: )'[^']+'").map((call) => /'(.+)'/.exec(call)?.[1]);
  expect(used.sort()).toEqual([...LOCK_NAMES].sort());
  // None that goes past the list.
  expect(grep('advisory_(xact_)?lock\\((\\$1|\\$\\{|[^)]).{0,30}').filter((call) => /lock\(\d/.test(call))).toEqual([]);
});
