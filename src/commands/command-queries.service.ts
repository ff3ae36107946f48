import { Injectable } from '@nestjs/common';
import { AgentDirectory } from '../agents/index.js';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import {
  type Page,
  paginationOf,
  type PaginationDto,
  parsePublicId,
  publicId,
  timeAndIdAfter,
} from '../platform/http/index.js';
import { type CommandDetail, type CommandView, VIEW_COLUMNS } from './command-view.js';
import { PRIORITIES, statesOf } from './command-status.js';
import type { CommandListQueryDto } from './commands.dto.js';

/** Output shown with the command itself, in bytes; the rest is in its log. */
const SHOWN_OUTPUT = 64 * 1024;
/** Matches are counted up to here. */
const COUNTED = 10_000;

/** Reads commands. An agent sees its own and no others: that is part of each query (rule 12). */
@Injectable()
export class CommandQueries {
  constructor(
    private readonly db: Database,
    private readonly directory: AgentDirectory,
  ) {}

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<CommandDetail> {
    const [row] = await this.db.query<CommandDetail>(
      `SELECT ${VIEW_COLUMNS}, result, timeline FROM commands WHERE id = $1 AND ($2::uuid IS NULL OR agent_id = $2)`,
      [id, onlyAgent(actor)],
    );
    if (!row) throw AppError.notFound('command', publicId('cmd', id));
    return row;
  }

  /** The beginning of what a command printed. */
  async outputStart(id: string): Promise<Buffer> {
    const chunks = await this.db.query<{ data: Buffer }>(
      `SELECT data FROM command_output WHERE command_id = $1 AND "offset" < ${SHOWN_OUTPUT} ORDER BY "offset"`,
      [id],
    );
    return Buffer.concat(chunks.map((c) => c.data)).subarray(0, SHOWN_OUTPUT);
  }

  async list(
    actor: Actor,
    query: CommandListQueryDto,
    page: Page,
  ): Promise<{ commands: CommandView[]; pagination: PaginationDto }> {
    const { where, params } = await this.conditions(actor, query);
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM (SELECT 1 FROM commands ${where} LIMIT ${COUNTED + 1}) AS matching`,
      params,
    );
    const seek = page.after ? `${where ? `${where} AND` : 'WHERE'} (created_at, id) < ($A, $B)` : where;
    const keys = page.after ? timeAndIdAfter(page) : [];
    const rows = await this.db.query<CommandView>(
      `SELECT ${VIEW_COLUMNS} FROM commands
       ${seek.replace('$A', `$${params.length + 1}::timestamptz`).replace('$B', `$${params.length + 2}::uuid`)}
       ORDER BY created_at DESC, id DESC LIMIT ${page.limit + 1} OFFSET ${page.offset}`,
      [...params, ...keys],
    );
    const commands = rows.slice(0, page.limit);
    const last = commands.at(-1);
    return {
      commands,
      pagination: paginationOf(page, {
        total: Math.min(total, COUNTED),
        exact: total <= COUNTED,
        hasMore: rows.length > page.limit,
        nextKeys: last && [last.created_at.toISOString(), last.id],
      }),
    };
  }

  private async conditions(actor: Actor, query: CommandListQueryDto): Promise<{ where: string; params: unknown[] }> {
    const { from, to } = query;
    if (from !== undefined && to !== undefined && new Date(from) > new Date(to)) {
      throw AppError.validation({ field: 'from', issue: 'must not be after to', location: 'query' });
    }
    const clauses: string[] = [];
    const params: unknown[] = [];
    const add = (clause: (place: string) => string, value: unknown): void => {
      params.push(value);
      clauses.push(clause(`$${params.length}`));
    };
    const own = onlyAgent(actor);
    if (own !== null) add((p) => `agent_id = ${p}`, own);
    if (query.status) add((p) => `status = ANY (${p})`, statesOf(query.status));
    if (query.type !== undefined) add((p) => `command_type = ${p}`, query.type);
    if (query.priority) add((p) => `priority = ${p}`, priorityOf(query.priority));
    if (query.parent) add((p) => `parent_id = ${p}`, parsePublicId('cmd', query.parent));
    if (from !== undefined) add((p) => `created_at >= ${p}`, new Date(from));
    if (to !== undefined) add((p) => `created_at < ${p}`, new Date(to));
    if (query.target !== undefined) {
      const agent = await this.agentNamed(query.target);
      add((p) => `target = ${p}`, query.target);
      if (agent) {
        const byText = clauses.pop() as string;
        add((p) => `(${byText} OR agent_id = ${p})`, agent);
      }
    }
    return { where: clauses.length > 0 ? `WHERE ${clauses.join(' AND ')}` : '', params };
  }

  /** UUID of the agent that a target names; selectors name none. */
  private async agentNamed(target: string): Promise<string | null> {
    const id = parsePublicId('agent', target);
    if (id || /^(label|group):/.test(target)) return id;
    return (await this.directory.find(target))[0]?.id ?? null;
  }
}

export function priorityOf(word: keyof typeof PRIORITIES | 'medium'): number {
  return PRIORITIES[word === 'medium' ? 'normal' : word];
}

/** UUID of the agent when the actor is one and may see only its own commands. */
export function onlyAgent(actor: Actor): string | null {
  return actor.type === 'agent' ? (actor.agentId ?? '00000000-0000-0000-0000-000000000000') : null;
}
