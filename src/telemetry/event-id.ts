import { randomFillSync } from 'node:crypto';

const BYTES = 16;
const POOL = Buffer.allocUnsafe(16 * 1024);
let used = POOL.length;

const NIBBLES = Uint8Array.from({ length: 128 }, (_, code) => parseInt(String.fromCharCode(code), 16) || 0);

/**
 * The ids of the events of one request as bytes, which is what the database takes: text is made only of those that
 * somebody asks for. Each is new until {@link put} replaces it.
 */
export class EventIds {
  /** Sixteen bytes an id. */
  readonly bytes: Buffer;

  /**
   * New ids have the version 4 layout, but their first 48 bits are the time `now` (ms): events that arrive
   * together lie together in the primary key's index, which a wholly random id would touch all over. 74 bits stay random.
   */
  constructor(count: number, now: number) {
    const bytes = randomBytes(count * BYTES);
    const high = Math.floor(now / 0x1_0000);
    for (let at = 0; at < bytes.length; at += BYTES) {
      bytes[at] = high >>> 24;
      bytes[at + 1] = high >>> 16;
      bytes[at + 2] = high >>> 8;
      bytes[at + 3] = high;
      bytes[at + 4] = now >>> 8;
      bytes[at + 5] = now;
      bytes[at + 6] = (bytes[at + 6] & 0x0f) | 0x40;
      bytes[at + 8] = (bytes[at + 8] & 0x3f) | 0x80;
    }
    this.bytes = bytes;
  }

  /** Replaces the id at `index` by the caller's own, a UUID in any case. */
  put(index: number, uuid: string): void {
    let at = index * BYTES;
    for (let i = 0; i < uuid.length; i += 2) {
      if (uuid.charCodeAt(i) === 0x2d /* - */) i++;
      this.bytes[at++] = (NIBBLES[uuid.charCodeAt(i)] << 4) | NIBBLES[uuid.charCodeAt(i + 1)];
    }
  }

  /** The id at `index` as a UUID in lower case. */
  text(index: number): string {
    const hex = this.bytes.toString('hex', index * BYTES, (index + 1) * BYTES);
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }
}

/** Few at a time come out of a pool: each call of the generator costs as much as hundreds of bytes. */
function randomBytes(size: number): Buffer {
  if (size > POOL.length / 4) return randomFillSync(Buffer.allocUnsafe(size));
  if (used + size > POOL.length) {
    randomFillSync(POOL);
    used = 0;
  }
  used += size;
  return Buffer.from(POOL.subarray(used - size, used));
}
