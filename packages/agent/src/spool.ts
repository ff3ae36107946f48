import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fdatasync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { reasonOf } from './agent-error.js';
import type { AgentLog } from './log.js';
import type { TelemetryEventFrame } from './protocol.js';

/** Well under the limit of a frame, also with its frame around it. */
const BATCH_BYTES = 200 * 1024;
const BATCH_EVENTS = 500;
const NAME = /^(\d{12})-([0-9a-f-]{36})\.json$/;

/** A batch on the disk. */
export interface SpooledBatch {
  id: string;
  file: string;
  bytes: number;
}

/**
 * Telemetry that Nexus has not stored yet, one file per batch, oldest first, within a bound: what does not fit any more
 * pushes out the oldest.
 */
export class Spool {
  /** Oldest first. */
  readonly batches = new Map<string, SpooledBatch>();
  /** Batches lost since the start: pushed out, unreadable, or not written because the disk is full. */
  dropped = 0;
  private bytes = 0;
  private next = 1;

  constructor(
    private readonly folder: string,
    private readonly limitBytes: number,
    private readonly sync: boolean,
    private readonly log: AgentLog,
  ) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(folder).sort()) {
      const match = NAME.exec(name);
      const file = path.join(folder, name);
      if (!match) {
        // Half-written when the agent was killed: it was never sent.
        rmSync(file, { force: true, recursive: true });
        continue;
      }
      this.next = Number(match[1]) + 1;
      this.keep({ id: match[2], file, bytes: statSync(file).size });
    }
  }

  /** Stores events as one batch, or several if they are many; resolves when they survive a crash. */
  async add(events: TelemetryEventFrame[]): Promise<void> {
    for (const texts of splitEvents(events)) await this.write(texts);
  }

  /** The events of a batch; null when its file is gone or damaged, the batch is then dropped. */
  read(batch: SpooledBatch): TelemetryEventFrame[] | null {
    try {
      return JSON.parse(readFileSync(batch.file, 'utf8')) as TelemetryEventFrame[];
    } catch (error) {
      this.log.warn('A batch of telemetry cannot be read and is dropped', { batch: batch.id, reason: reasonOf(error) });
      this.dropped++;
      this.remove(batch.id);
      return null;
    }
  }

  remove(id: string): void {
    const batch = this.batches.get(id);
    if (!batch) return;
    this.batches.delete(id);
    this.bytes -= batch.bytes;
    rmSync(batch.file, { force: true });
  }

  private async write(texts: string[]): Promise<void> {
    const id = randomUUID();
    const file = path.join(this.folder, `${String(this.next++).padStart(12, '0')}-${id}.json`);
    const text = `[${texts.join(',')}]`;
    try {
      const fd = openSync(`${file}.new`, 'w', 0o600);
      try {
        writeFileSync(fd, text);
        if (this.sync) await promisify(fdatasync)(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(`${file}.new`, file);
    } catch (error) {
      this.dropped++;
      rmSync(`${file}.new`, { force: true });
      this.log.warn('A batch of telemetry cannot be stored and is dropped', { reason: reasonOf(error) });
      return;
    }
    this.keep({ id, file, bytes: Buffer.byteLength(text) });
  }

  private keep(batch: SpooledBatch): void {
    this.batches.set(batch.id, batch);
    this.bytes += batch.bytes;
    for (const oldest of this.batches.values()) {
      if (this.bytes <= this.limitBytes || oldest === batch) return;
      this.remove(oldest.id);
      this.dropped++;
    }
  }
}

/** Groups of event texts that fit a frame each. An event that is too big for any frame is left out. */
function* splitEvents(events: TelemetryEventFrame[]): Generator<string[]> {
  let group: string[] = [];
  let bytes = 0;
  for (const event of events) {
    const text = JSON.stringify(event);
    const size = Buffer.byteLength(text) + 1;
    if (size > BATCH_BYTES) continue;
    if (group.length === BATCH_EVENTS || bytes + size > BATCH_BYTES) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(text);
    bytes += size;
  }
  if (group.length > 0) yield group;
}
