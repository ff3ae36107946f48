import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { Database, prepared } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { InFlight, publicId } from '../platform/http/index.js';
import { Bus, type CredentialHolder, CredentialWatch } from '../platform/realtime/index.js';
import { onlyAgent } from './command-queries.service.js';
import { type CommandState, isFinal, statusOf } from './command-status.js';
import { COMMANDS_CHANGED } from './command-writer.js';

/** Bytes of one answer, about: whole chunks are given. */
const ANSWER_BYTES = 256 * 1024;
const ANSWER_CHUNKS = 1000;
/** A change that was not heard of is found after this. */
const LOOK_AGAIN_MS = 2000;

/**
 * State and output in one statement, so of one moment: when the command has ended, all of its output is there. One row without
 * output when there is none, no row when the actor may not see the command.
 */
const READ = prepared(
  'commands.logs',
  `SELECT c.status, o."offset", o.stream, o.data
   FROM commands c LEFT JOIN LATERAL (
     SELECT "offset", stream, data FROM (
       SELECT "offset", stream, data, sum(length(data)) OVER (ORDER BY "offset") - length(data) AS before
       FROM command_output
       WHERE command_id = c.id AND "offset" >= coalesce(
         (SELECT max("offset") FROM command_output WHERE command_id = c.id AND "offset" <= $2), 0)
       ORDER BY "offset" LIMIT ${ANSWER_CHUNKS}
     ) AS chunks WHERE before < ${ANSWER_BYTES}
   ) AS o ON true
   WHERE c.id = $1 AND ($3::uuid IS NULL OR c.agent_id = $3)
   ORDER BY o."offset"`,
);

type OutputRow = { status: CommandState } & (
  { offset: string; stream: OutputChunk['stream']; data: Buffer } | { offset: null }
);

export interface OutputChunk {
  offset: number;
  stream: 'stdout' | 'stderr';
  data: Buffer;
}

export interface OutputPage {
  chunks: OutputChunk[];
  /** Where the next page begins. */
  nextOffset: number;
  /** True when the command has ended and nothing follows. */
  complete: boolean;
  state: CommandState;
}

/** Reads what commands print, while they print it (row CMD-06). */
@Injectable()
export class CommandLogs {
  constructor(
    private readonly db: Database,
    private readonly bus: Bus,
    private readonly watch: CredentialWatch,
    private readonly inFlight: InFlight,
  ) {}

  /** Output from byte `after` on. @throws AppError `not_found` */
  async page(actor: Actor, id: string, after: number): Promise<OutputPage> {
    const page = await this.read(actor, id, after);
    if (!page) throw AppError.notFound('command', publicId('cmd', id));
    return page;
  }

  /**
   * Calls `onPage` with all output from byte `after` on until the command has ended; first at once, with what there is. Returns
   * then, or early when `signal` is aborted, the reader lost rights or the server stops; `onPage` hears of any of these, too.
   * @throws AppError `not_found`, before the first page
   */
  async follow(
    reader: CredentialHolder,
    id: string,
    after: number,
    signal: AbortSignal,
    onPage: (page: OutputPage, ended: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const revoked = new AbortController();
    const { actor } = reader;
    const unwatch = this.watch.watch(reader, () => revoked.abort());
    const end = AbortSignal.any([signal, revoked.signal, this.inFlight.draining]);
    const bell = new Bell();
    const unsubscribe = this.bus.subscribe<string[]>(COMMANDS_CHANGED, (ids) => ids.includes(id) && bell.ring());
    end.addEventListener('abort', () => bell.ring());
    try {
      let page = await this.page(actor, id, after);
      await onPage(page, end);
      let offset = after;
      while (!page.complete && !end.aborted) {
        if (page.nextOffset === offset) await bell.rung(LOOK_AGAIN_MS);
        offset = page.nextOffset;
        bell.reset();
        // One that is gone in the meantime has ended.
        page = (await this.read(actor, id, offset)) ?? {
          chunks: [],
          nextOffset: offset,
          complete: true,
          state: 'cancelled',
        };
        if (page.chunks.length > 0 || page.complete) await onPage(page, end);
      }
    } finally {
      unsubscribe();
      unwatch();
    }
  }

  private async read(actor: Actor, id: string, after: number): Promise<OutputPage | null> {
    const rows = await this.db.query<OutputRow>(READ, [id, after, onlyAgent(actor)]);
    if (rows.length === 0) return null;
    const chunks = rows.flatMap((row) => {
      if (row.offset === null) return [];
      const start = Number(row.offset);
      const skip = Math.max(0, after - start);
      const { stream, data } = row;
      return skip < data.length ? [{ offset: start + skip, stream, data: data.subarray(skip) }] : [];
    });
    const last = chunks.at(-1);
    const nextOffset = last ? last.offset + last.data.length : after;
    const state = rows[0].status;
    // Whole chunks, as the statement counts them: the first one may begin before the byte wanted.
    const bytes = rows.reduce((sum, row) => sum + (row.offset === null ? 0 : row.data.length), 0);
    const cut = bytes >= ANSWER_BYTES || rows.length === ANSWER_CHUNKS;
    return { chunks, nextOffset, complete: isFinal(state) && !cut, state };
  }
}

/** Public word for how a followed command ended. */
export function endOf(page: OutputPage): { status: string; substatus: string; next_offset: number } {
  return { status: statusOf(page.state), substatus: page.state, next_offset: page.nextOffset };
}

/** Lets one waiter sleep until it is rung or the time is up. */
class Bell {
  private isRung = false;
  private wake: (() => void) | undefined;

  ring(): void {
    this.isRung = true;
    this.wake?.();
  }

  reset(): void {
    this.isRung = false;
  }

  async rung(timeoutMs: number): Promise<void> {
    if (this.isRung) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      timer = setTimeout(resolve, timeoutMs);
    });
    clearTimeout(timer);
    this.wake = undefined;
  }
}
