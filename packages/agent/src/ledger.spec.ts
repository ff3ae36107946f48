import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Ledger, type LedgerEntry, type ResultFrame } from './ledger.js';
import { silentLog } from './log.js';

const HOUR = 3600 * 1000;
let file: string;

beforeEach(() => {
  file = path.join(mkdtempSync(path.join(os.tmpdir(), 'agent-ledger-')), 'ledger');
});

afterEach(() => rmSync(path.dirname(file), { recursive: true, force: true }));

function entry(id: string, expiresAt = Date.now() + HOUR): LedgerEntry {
  return { id, envelope: `{"command_id":"${id}"}`, expiresAt };
}

function resultOf(command_id: string): ResultFrame {
  return {
    type: 'command_result',
    command_id,
    status: 'completed',
    message: 'done',
    exit_code: 0,
    signal: null,
    started_at: null,
    completed_at: new Date().toISOString(),
    duration_ms: 1,
    output_bytes: 0,
    output_truncated: false,
  };
}

it('remembers how far each command got', async () => {
  const ledger = new Ledger(file, true, silentLog);
  const [accepted, started, finished, settled] = ['a', 'b', 'c', 'd'].map((id) => entry(id));
  for (const one of [accepted, started, finished, settled]) ledger.accept(one);
  for (const one of [started, finished, settled]) ledger.start(one, '2026-01-01T00:00:00.000Z');
  ledger.spawned(started, 4711, 'boot:1');
  ledger.finish(finished, resultOf('c'));
  ledger.finish(settled, resultOf('d'));
  ledger.settle('d');
  await ledger.durable();
  await ledger.close();

  const again = new Ledger(file, true, silentLog);
  expect([...again.entries.values()]).toEqual([accepted, started, finished]);
  expect(again.entries.get('b')?.process).toEqual({ pid: 4711, started: 'boot:1' });
  expect(['a', 'b', 'c', 'd', 'e'].map((id) => again.knows(id))).toEqual([true, true, true, true, false]);
  await again.close();
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

it('loses only the line that was being written', async () => {
  const first = new Ledger(file, true, silentLog);
  first.accept(entry('a'));
  await first.close();
  appendFileSync(file, '{"t":"accepted","id":"torn","env');
  const second = new Ledger(file, true, silentLog);
  second.accept(entry('b'));
  await second.close();
  const third = new Ledger(file, true, silentLog);
  expect([...third.entries.keys()]).toEqual(['a', 'b']);
  await third.close();
});

it('forgets ids only when their command cannot come again', async () => {
  const now = Date.now();
  const lines = Array.from({ length: 20_000 }, (_, n) => ({
    t: 'settled',
    id: `old-${n}`,
    at: now - 30 * HOUR,
    expires: now - 29 * HOUR,
  }));
  const kept = [
    { t: 'settled', id: 'recent', at: now - HOUR, expires: now - HOUR },
    { t: 'settled', id: 'long', at: now - 30 * HOUR, expires: now + HOUR },
    { t: 'accepted', id: 'open', at: now, envelope: '{}', expires: now + HOUR },
  ];
  writeFileSync(file, [...lines, ...kept].map((line) => `${JSON.stringify(line)}\n`).join(''));
  const before = statSync(file).size;
  const ledger = new Ledger(file, true, silentLog);
  expect(statSync(file).size).toBeLessThan(before / 100);
  expect(['recent', 'long', 'open', 'old-0'].map((id) => ledger.knows(id))).toEqual([true, true, true, false]);
  expect(ledger.isBeforeMemory(now - 29 * HOUR)).toBe(true);
  expect(ledger.isBeforeMemory(now)).toBe(false);
  ledger.accept(entry('later'));
  await ledger.close();

  const again = new Ledger(file, true, silentLog);
  expect([...again.entries.keys()]).toEqual(['open', 'later']);
  expect(again.isBeforeMemory(now - 29 * HOUR)).toBe(true);
  await again.close();
});

it('stays small while it works', async () => {
  const ledger = new Ledger(file, false, silentLog);
  const envelope = 'x'.repeat(100_000);
  for (let n = 0; n < 200; n++) {
    ledger.accept({ ...entry(`id-${n}`), envelope });
    ledger.settle(`id-${n}`);
    await ledger.durable();
  }
  ledger.accept(entry('last'));
  expect(statSync(file).size).toBeLessThan(10 * 1024 * 1024);
  expect(ledger.knows('id-0')).toBe(true);
  await ledger.close();
  expect(readFileSync(file, 'utf8').trim().split('\n').at(-1)).toContain('"last"');
});
