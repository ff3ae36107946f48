import { Injectable } from '@nestjs/common';
import { Signal } from '../platform/concurrency/index.js';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { InFlight } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { Bus, type CredentialHolder, CredentialWatch, StreamPlaces } from '../platform/realtime/index.js';
import { onlyAgent } from './command-queries.service.js';
import { type CommandState, isFinal, statusOf } from './command-status.js';
import type { CommandOutput } from './command-output.entity.js';
import { COMMANDS_CHANGED } from './command-writer.js';
import { PAGE_BYTES, PAGE_CHUNKS, readOutput } from './commands.queries.js';
import { SharedReads } from './shared-reads.js';

/** A change that was not heard of is found after this. */
const LOOK_AGAIN_MS = 2000;

export type OutputChunk = Pick<CommandOutput, 'offset' | 'stream' | 'data'>;

export interface OutputPage {
  chunks: OutputChunk[];
  /** Where the next page begins. */
  nextOffset: number;
  /** True when the command has ended and nothing follows. */
  complete: boolean;
  state: CommandState;
}

/** Reads what commands print, while they print it. */
@Injectable()
export class CommandLogs {
  private readonly reads = new SharedReads<OutputPage | null>();

  constructor(
    private readonly db: Database,
    private readonly bus: Bus,
    private readonly watch: CredentialWatch,
    private readonly places: StreamPlaces,
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
   * @throws AppError `not_found`, and `rate_limited` when the credential holds too many streams, before the first page
   */
  async follow(
    reader: CredentialHolder,
    id: string,
    after: number,
    signal: AbortSignal,
    onPage: (page: OutputPage, ended: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const { actor } = reader;
    const leave = this.places.take(actor);
    const revoked = new AbortController();
    const unwatch = this.watch.watch(reader, () => revoked.abort());
    const end = AbortSignal.any([signal, revoked.signal, this.inFlight.draining]);
    const changed = new Signal();
    const unsubscribe = this.bus.subscribe<string[]>(COMMANDS_CHANGED, (ids) => ids.includes(id) && changed.set());
    end.addEventListener('abort', () => changed.set());
    try {
      let page = await this.page(actor, id, after);
      await onPage(page, end);
      let offset = after;
      while (!page.complete && !end.aborted) {
        if (page.nextOffset === offset) await changed.wait(LOOK_AGAIN_MS);
        offset = page.nextOffset;
        changed.reset();
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
      leave();
    }
  }

  /** The same page for all who may see the same. */
  private read(actor: Actor, id: string, after: number): Promise<OutputPage | null> {
    const agent = onlyAgent(actor);
    return this.reads.read([id, after, agent].join(), () => this.load(id, after, agent));
  }

  private async load(id: string, after: number, agent: string | null): Promise<OutputPage | null> {
    const rows = await readOutput(this.db, id, after, agent);
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
    const cut = bytes >= PAGE_BYTES || rows.length === PAGE_CHUNKS;
    return { chunks, nextOffset, complete: isFinal(state) && !cut, state };
  }
}

/** Public word for how a followed command ended. */
export function endOf(page: OutputPage): { status: string; substatus: string; next_offset: number } {
  return { status: statusOf(page.state), substatus: page.state, next_offset: page.nextOffset };
}
