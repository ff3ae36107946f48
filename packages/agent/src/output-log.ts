import { isUtf8 } from 'node:buffer';
import {
  appendFileSync,
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';

export type OutputStream = 'stdout' | 'stderr';

/** A piece of output as it goes over the link. */
export interface OutputPiece {
  stream: OutputStream;
  offset: number;
  length: number;
  encoding: 'utf8' | 'base64';
  data: string;
}

/** Bytes in one frame. Escaped or in base64 they still fit a frame several times. */
const PIECE_BYTES = 48 * 1024;

/** Outputs by command id, in one folder. */
export class OutputStore {
  constructor(private readonly folder: string) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** @param limit bytes kept; what comes after them is dropped */
  open(id: string, limit: number): OutputLog {
    return new OutputLog(path.join(this.folder, id), limit);
  }

  /** Removes what belongs to no command any more. */
  keepOnly(ids: { has(id: string): boolean }): void {
    for (const name of readdirSync(this.folder)) {
      if (!ids.has(path.parse(name).name)) rmSync(path.join(this.folder, name), { force: true });
    }
  }
}

/**
 * What a command printed, stdout and stderr in order of arrival, in a file until Nexus has it. Where the stream changes is
 * kept in a second file, which exists only if it ever does; output starts as stdout.
 */
export class OutputLog {
  /** Bytes kept. */
  length = 0;
  /** Something was printed past the limit, or could not be written. */
  truncated = false;
  private readonly turns: { at: number; stream: OutputStream }[] = [{ at: 0, stream: 'stdout' }];
  private fd: number | undefined;

  /** @param file may hold output of an earlier life of the agent */
  constructor(
    private readonly file: string,
    private readonly limit: number,
  ) {
    try {
      this.fd = openSync(file, 'r+');
      this.length = fstatSync(this.fd).size;
    } catch {
      return;
    }
    for (const line of readTurns(this.turnsFile)) {
      const [at, stream] = line.split(' ');
      if (Number(at) <= this.length && (stream === 'stdout' || stream === 'stderr')) {
        this.turns.push({ at: Number(at), stream });
      }
    }
  }

  append(stream: OutputStream, bytes: Buffer): void {
    const kept = bytes.subarray(0, Math.max(0, this.limit - this.length));
    if (kept.length < bytes.length) this.truncated = true;
    if (kept.length === 0) return;
    try {
      if (this.turns[this.turns.length - 1].stream !== stream) {
        appendFileSync(this.turnsFile, `${this.length} ${stream}\n`, { mode: 0o600 });
        this.turns.push({ at: this.length, stream });
      }
      this.fd ??= openSync(this.file, 'w+', 0o600);
      this.length += writeSync(this.fd, kept, 0, kept.length, this.length);
    } catch {
      // The disk is full: the program goes on, its output is told to be incomplete.
      this.truncated = true;
    }
  }

  /**
   * The next piece from an offset, of one stream; null when there is none to send yet. Output that cannot be read any more
   * ends at the offset.
   * @param more more output may follow: bytes that begin a character wait for its rest
   */
  pieceAt(offset: number, more: boolean): OutputPiece | null {
    if (offset >= this.length) return null;
    const turn = this.turns.findLastIndex(({ at }) => at <= offset);
    const end = this.turns[turn + 1]?.at ?? this.length;
    const room = Buffer.allocUnsafe(Math.min(PIECE_BYTES, end - offset));
    let bytes = room.subarray(0, this.read(room, offset));
    if (bytes.length === 0) {
      this.length = offset;
      this.truncated = true;
      return null;
    }
    const whole = wholeCharacters(bytes);
    const goesOn = offset + bytes.length < end || (end === this.length && more);
    if (goesOn && whole === 0 && bytes.length < 4) return null;
    if (goesOn && whole > 0) bytes = bytes.subarray(0, whole);
    return { stream: this.turns[turn].stream, offset, length: bytes.length, ...encode(bytes) };
  }

  /** Lets go of the file; it is opened again when asked for. */
  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  remove(): void {
    const hadFile = this.length > 0 || this.fd !== undefined;
    this.close();
    if (hadFile) rmSync(this.file, { force: true });
    if (this.turns.length > 1) rmSync(this.turnsFile, { force: true });
  }

  private read(room: Buffer, offset: number): number {
    try {
      this.fd ??= openSync(this.file, 'r+');
      return readSync(this.fd, room, 0, room.length, offset);
    } catch {
      return 0;
    }
  }

  private get turnsFile(): string {
    return `${this.file}.turns`;
  }
}

function readTurns(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n');
  } catch {
    return [];
  }
}

/** Bytes up to the end of the last complete character; 0 when the bytes are not UTF-8. */
function wholeCharacters(bytes: Buffer): number {
  for (let cut = 0; cut <= 3 && cut < bytes.length; cut++) {
    if (isUtf8(bytes.subarray(0, bytes.length - cut))) return bytes.length - cut;
  }
  return 0;
}

/** As text where it is text; NUL and text that is mostly escapes in JSON go as base64. */
function encode(bytes: Buffer): { encoding: 'utf8' | 'base64'; data: string } {
  if (isUtf8(bytes) && !bytes.includes(0)) {
    const data = bytes.toString('utf8');
    if (bytes.length < 1024 || JSON.stringify(data).length < bytes.length * 3) return { encoding: 'utf8', data };
  }
  return { encoding: 'base64', data: bytes.toString('base64') };
}
