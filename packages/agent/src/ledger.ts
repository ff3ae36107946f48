import { closeSync, fdatasync, fdatasyncSync, fstatSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';
import { reasonOf } from './agent-error.js';
import { syncFolder } from './home.js';
import type { AgentLog } from './log.js';
import { type AgentFrame, shownCommandId } from './protocol.js';

export type ResultFrame = Extract<AgentFrame, { type: 'command_result' }>;

/** A command that this agent took on and whose result Nexus has not acknowledged yet. */
export interface LedgerEntry {
  id: string;
  /** The signed text, exactly as it came. */
  envelope: string;
  /** Milliseconds since the epoch. */
  expiresAt: number;
  /** Set before the program starts: a command with it and without a result has an unknown outcome after a crash. */
  startedAt?: string;
  process?: { pid: number; started: string | null };
  result?: ResultFrame;
}

type LedgerLine =
  | { t: 'accepted'; id: string; at: number; envelope: string; expires: number }
  | { t: 'started'; id: string; at: string }
  | { t: 'spawned'; id: string; pid: number; started: string | null }
  | { t: 'finished'; id: string; result: ResultFrame }
  | { t: 'settled'; id: string; at: number; expires?: number }
  | { t: 'horizon'; expires: number };

const KEEP_SETTLED_MS = 24 * 3600 * 1000;
/** Beyond so many, ids of expired commands are forgotten before their day is over. */
const KEEP_SETTLED = 100_000;
const COMPACT_AT_BYTES = 8 * 1024 * 1024;

/**
 * An append-only file of every command that this agent has accepted, so that a command runs at most once, whichever process is killed.
 * When a method returns, its line survives the end of this process; when {@link durable} resolves, it survives a power cut too.
 */
export class Ledger {
  /** In the order of acceptance. */
  readonly entries = new Map<string, LedgerEntry>();
  private readonly settledIds = new Map<string, { at: number; expires: number }>();
  /** Latest expiry among forgotten ids: what expires no later could be one of them. */
  private horizon = 0;
  private fd: number;
  private size = 0;
  private compactAt = COMPACT_AT_BYTES;
  private torn = false;
  private syncing = false;
  private waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];

  /** @param sync false for an agent whose home is not meant to survive it */
  constructor(
    private readonly file: string,
    private readonly sync: boolean,
    private readonly log: AgentLog,
  ) {
    this.fd = openSync(file, 'a+', 0o600);
    this.load();
    if (sync) syncFolder(path.dirname(file));
  }

  /** True for a command that was taken on before, finished or not; it must never run again. */
  knows(id: string): boolean {
    return this.entries.has(id) || this.settledIds.has(id);
  }

  /** True when a command with this expiry could be one that was forgotten. */
  isBeforeMemory(expiresAt: number): boolean {
    return expiresAt <= this.horizon;
  }

  /** @throws Error when the line cannot be written; the command then is not taken on */
  accept(entry: LedgerEntry): void {
    this.append({ t: 'accepted', id: entry.id, at: Date.now(), envelope: entry.envelope, expires: entry.expiresAt });
    this.entries.set(entry.id, entry);
  }

  /** @throws Error when the line cannot be written; the program then must not start */
  start(entry: LedgerEntry, at: string): void {
    this.append({ t: 'started', id: entry.id, at });
    entry.startedAt = at;
  }

  spawned(entry: LedgerEntry, pid: number, started: string | null): void {
    entry.process = { pid, started };
    this.tryAppend({ t: 'spawned', id: entry.id, pid, started });
  }

  finish(entry: LedgerEntry, result: ResultFrame): void {
    entry.result = result;
    this.tryAppend({ t: 'finished', id: entry.id, result });
  }

  /** Nexus knows the end (or wants nothing more): only the id is kept. */
  settle(id: string): void {
    const entry = this.entries.get(id);
    if (!entry) return;
    this.tryAppend({ t: 'settled', id, at: Date.now() });
    this.entries.delete(id);
    this.settledIds.set(id, { at: Date.now(), expires: entry.expiresAt });
    if (this.size > this.compactAt) this.compact();
  }

  /** Resolves when everything appended so far is on the disk; calls that meet share one sync. */
  durable(): Promise<void> {
    if (!this.sync) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      if (!this.syncing) this.syncNow();
    });
  }

  async close(): Promise<void> {
    await this.durable().catch(() => undefined);
    closeSync(this.fd);
  }

  private syncNow(): void {
    const group = this.waiting;
    this.waiting = [];
    this.syncing = true;
    fdatasync(this.fd, (error) => {
      this.syncing = false;
      for (const { resolve, reject } of group) {
        if (error) reject(error);
        else resolve();
      }
      if (this.waiting.length > 0) this.syncNow();
    });
  }

  private append(line: LedgerLine): void {
    const text = Buffer.from(`${this.torn ? '\n' : ''}${JSON.stringify(line)}\n`);
    this.torn = true;
    for (let written = 0; written < text.length;) written += writeSync(this.fd, text, written);
    this.torn = false;
    this.size += text.length;
  }

  /** For what is true whether it is written or not: without the line, a crash makes the outcome unknown. */
  private tryAppend(line: LedgerLine): void {
    try {
      this.append(line);
    } catch (error) {
      this.log.error('The ledger cannot be written', {
        command: 'id' in line ? shownCommandId(line.id) : null,
        reason: reasonOf(error),
      });
    }
  }

  private load(): void {
    const text = readFileSync(this.file, 'utf8');
    this.size = fstatSync(this.fd).size;
    this.torn = text.length > 0 && !text.endsWith('\n');
    for (const line of text.split('\n')) {
      const record = line && parseLine(line);
      if (record) this.replay(record);
    }
    if (this.size > COMPACT_AT_BYTES / 8) this.compact();
  }

  private replay(line: LedgerLine): void {
    if (line.t === 'horizon') {
      this.horizon = Math.max(this.horizon, line.expires);
      return;
    }
    if (line.t === 'accepted') {
      this.entries.set(line.id, { id: line.id, envelope: line.envelope, expiresAt: line.expires });
      return;
    }
    const entry = this.entries.get(line.id);
    if (line.t === 'settled') {
      this.entries.delete(line.id);
      this.settledIds.set(line.id, { at: line.at, expires: line.expires ?? entry?.expiresAt ?? line.at });
    } else if (entry) {
      if (line.t === 'started') entry.startedAt = line.at;
      else if (line.t === 'spawned') entry.process = { pid: line.pid, started: line.started };
      else entry.result = line.result;
    }
  }

  /** Writes what still matters to a new file and puts it in place at once. */
  private compact(): void {
    this.forget();
    const lines: LedgerLine[] = [{ t: 'horizon', expires: this.horizon }];
    for (const [id, { at, expires }] of this.settledIds) lines.push({ t: 'settled', id, at, expires });
    for (const entry of this.entries.values()) lines.push(...linesOf(entry));
    const fresh = `${this.file}.new`;
    try {
      const text = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
      const fd = openSync(fresh, 'w', 0o600);
      for (let written = 0; written < text.length;) written += writeSync(fd, text, written);
      if (this.sync) fdatasyncSync(fd);
      closeSync(fd);
      renameSync(fresh, this.file);
      if (this.sync) syncFolder(path.dirname(this.file));
      const old = this.fd;
      this.fd = openSync(this.file, 'a', 0o600);
      this.size = text.length;
      this.torn = false;
      // A sync of the old file may be on its way; what it waits for is in the new one already.
      if (this.syncing) this.waiting.push({ resolve: () => closeSync(old), reject: () => closeSync(old) });
      else closeSync(old);
    } catch (error) {
      this.log.error('The ledger cannot be compacted', { reason: reasonOf(error) });
    }
    this.compactAt = Math.max(COMPACT_AT_BYTES, this.size * 2);
  }

  private forget(): void {
    const now = Date.now();
    let tooMany = this.settledIds.size - KEEP_SETTLED;
    for (const [id, { at, expires }] of this.settledIds) {
      if (expires > now || (at > now - KEEP_SETTLED_MS && tooMany <= 0)) continue;
      this.settledIds.delete(id);
      this.horizon = Math.max(this.horizon, expires);
      tooMany--;
    }
  }
}

function linesOf(entry: LedgerEntry): LedgerLine[] {
  const { id, envelope, expiresAt, startedAt, process, result } = entry;
  const lines: LedgerLine[] = [{ t: 'accepted', id, at: Date.now(), envelope, expires: expiresAt }];
  if (startedAt) lines.push({ t: 'started', id, at: startedAt });
  if (process) lines.push({ t: 'spawned', id, ...process });
  if (result) lines.push({ t: 'finished', id, result });
  return lines;
}

function parseLine(line: string): LedgerLine | null {
  try {
    return JSON.parse(line) as LedgerLine;
  } catch {
    return null;
  }
}
