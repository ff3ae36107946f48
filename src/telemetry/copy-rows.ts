import type { TelemetryRow } from './telemetry-event.js';

const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const FIELDS = 9;
/** Length of a field that is NULL. */
const NULL = -1;
/** Fixed-size fields and all length words of one row. */
const FIXED_BYTES = 2 + FIELDS * 4 + 16 + 8 * 4 + 2;
/** Milliseconds from 1970 to 2000, where PostgreSQL counts from. */
const PG_EPOCH_MS = 946_684_800_000;

/**
 * Rows, their columns in the order of `EVENT_COLUMNS`, in the binary format of COPY (PostgreSQL manual, COPY, "Binary Format"): nothing to escape here and nothing to parse
 * there, which is where most of a text COPY's time goes.
 */
export function encodeRows(rows: readonly TelemetryRow[], buffers = new EncodeBuffers()): Buffer {
  let out = buffers.take();
  let at = HEADER.copy(out);
  for (const row of rows) {
    const characters = row.eventType.length + row.source.length + row.size;
    // Three bytes are the most that a UTF-16 unit becomes.
    if (out.length - at < FIXED_BYTES + characters * 3) {
      const larger = Buffer.allocUnsafe(out.length * 2 + FIXED_BYTES + characters * 3);
      out.copy(larger, 0, 0, at);
      out = larger;
    }
    out[at++] = 0;
    out[at++] = FIELDS;
    at = writeUuid(out, at, row.receipt.ids.bytes, row.index);
    at = writeTime(out, at, row.ts);
    at = writeTime(out, at, row.receipt.receivedAt);
    at = row.series === null ? writeWord(out, at, NULL) : writeLong(out, writeWord(out, at, 8), row.series.id);
    at = row.metric === null ? writeWord(out, at, NULL) : out.writeDoubleBE(row.metric.value, writeWord(out, at, 8));
    at = writeText(out, at, row.eventType);
    at = writeText(out, at, row.source);
    at = row.inBytes ? writeRaw(out, at, row.body, row.from, row.to) : writeJsonb(out, at, row.data);
    at = row.metadata === null ? writeWord(out, at, NULL) : writeJsonb(out, at, row.metadata);
  }
  at = out.writeInt16BE(-1, at);
  return out.subarray(0, at);
}

const KEPT = 4;
const FIRST_SIZE = 1 << 20;
const KEPT_SIZE = 8 << 20;

/** Memory for encoded rows, used again and again: fresh megabytes for every flush cost as much as filling them. */
export class EncodeBuffers {
  private readonly free: Buffer[] = [];

  take(): Buffer {
    return this.free.pop() ?? Buffer.allocUnsafe(FIRST_SIZE);
  }

  /** Gives back what {@link encodeRows} returned, once nobody reads it any more. */
  give(encoded: Buffer): void {
    const whole = Buffer.from(encoded.buffer, encoded.byteOffset);
    if (this.free.length < KEPT && whole.length <= KEPT_SIZE && whole.length >= FIRST_SIZE) this.free.push(whole);
  }
}

// Written byte by byte: the methods of Buffer check their arguments, which here would cost more than the work.

/** A 32-bit word; returns where the next byte goes. */
function writeWord(out: Buffer, at: number, word: number): number {
  out[at] = word >>> 24;
  out[at + 1] = word >>> 16;
  out[at + 2] = word >>> 8;
  out[at + 3] = word;
  return at + 4;
}

/** A whole number of 64 bits, exact to 2^53. */
function writeLong(out: Buffer, at: number, value: number): number {
  const high = Math.floor(value / 0x1_0000_0000);
  return writeWord(out, writeWord(out, at, high), value - high * 0x1_0000_0000);
}

function writeUuid(out: Buffer, at: number, ids: Buffer, index: number): number {
  at = writeWord(out, at, 16);
  const from = index * 16;
  for (let i = 0; i < 16; i++) out[at + i] = ids[from + i];
  return at + 16;
}

function writeTime(out: Buffer, at: number, ms: number): number {
  // Microseconds reach beyond 2^53 only in the year 2255.
  return writeLong(out, writeWord(out, at, 8), (ms - PG_EPOCH_MS) * 1000);
}

function writeText(out: Buffer, at: number, text: string): number {
  const length = writeUtf8(out, at + 4, text);
  writeWord(out, at, length);
  return at + 4 + length;
}

function writeJsonb(out: Buffer, at: number, json: string): number {
  // The version of the format.
  out[at + 4] = 1;
  const length = out.write(json, at + 5);
  writeWord(out, at, length + 1);
  return at + 5 + length;
}

/** JSON text that is there as bytes. */
function writeRaw(out: Buffer, at: number, bytes: Buffer, from: number, to: number): number {
  at = writeWord(out, at, to - from + 1);
  out[at++] = 1;
  for (let i = from; i < to; i++) out[at++] = bytes[i];
  return at;
}

/** Short ASCII text is written faster here than by a call into the engine. */
function writeUtf8(out: Buffer, at: number, text: string): number {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return out.write(text, at);
    out[at + i] = code;
  }
  return text.length;
}
