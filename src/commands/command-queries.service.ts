import { Injectable } from '@nestjs/common';
import { type FindOptionsWhere, In, LessThan, MoreThanOrEqual } from 'typeorm';
import { AgentDirectory } from '../agents/index.js';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { parsePublicId, publicId } from '../platform/ids/index.js';
import { CommandOutput } from './command-output.entity.js';
import { type CommandView, VIEW } from './command-view.js';
import { PRIORITIES, statesOf } from './command-status.js';
import { Command } from './command.entity.js';
import type { CommandListQueryDto } from './commands.dto.js';

/** Output shown with the command itself, in bytes; the rest is in its log. */
const SHOWN_OUTPUT = 64 * 1024;
/** Matches are counted up to here. */
const COUNTED = 10_000;
/** An id that no row has. */
const NOBODY = '00000000-0000-0000-0000-000000000000';

/** Of several alternatives one must hold. */
type Condition = FindOptionsWhere<Command> | FindOptionsWhere<Command>[];

/** Reads commands. An agent sees its own and no others: that is part of each query. */
@Injectable()
export class CommandQueries {
  constructor(
    private readonly db: Database,
    private readonly directory: AgentDirectory,
  ) {}

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<Command> {
    const agentId = onlyAgent(actor);
    const command = await this.db.repository(Command).findOneBy({ id, ...(agentId === null ? {} : { agentId }) });
    if (!command) throw AppError.notFound('command', publicId('cmd', id));
    return command;
  }

  /** The beginning of what a command printed. */
  async outputStart(commandId: string): Promise<Buffer> {
    const chunks = await this.db.repository(CommandOutput).find({
      where: { commandId, offset: LessThan(SHOWN_OUTPUT) },
      order: { offset: 'ASC' },
    });
    return Buffer.concat(chunks.map((c) => c.data)).subarray(0, SHOWN_OUTPUT);
  }

  async list(
    actor: Actor,
    query: CommandListQueryDto,
    page: Page,
  ): Promise<{ commands: CommandView[]; pagination: PaginationDto }> {
    const list = this.db
      .repository(Command)
      .createQueryBuilder('command')
      .select(VIEW.map((property) => `command.${property}`));
    for (const condition of await this.conditions(actor, query)) list.andWhere(condition);
    const { rows, pagination } = await pageNewestFirst(list, page, 'createdAt', COUNTED);
    return { commands: rows, pagination };
  }

  /** All of them hold for each command of the list. */
  private async conditions(actor: Actor, query: CommandListQueryDto): Promise<Condition[]> {
    const { from, to } = query;
    if (from !== undefined && to !== undefined && new Date(from) > new Date(to)) {
      throw AppError.validation({ field: 'from', issue: 'must not be after to', location: 'query' });
    }
    const own = onlyAgent(actor);
    const conditions: Condition[] = [];
    if (own !== null) conditions.push({ agentId: own });
    if (query.status) conditions.push({ status: In(statesOf(query.status)) });
    if (query.type !== undefined) conditions.push({ commandType: query.type });
    if (query.priority) conditions.push({ priority: priorityOf(query.priority) });
    if (query.parent) conditions.push({ parentId: parsePublicId('cmd', query.parent) ?? NOBODY });
    if (from !== undefined) conditions.push({ createdAt: MoreThanOrEqual(new Date(from)) });
    if (to !== undefined) conditions.push({ createdAt: LessThan(new Date(to)) });
    if (query.target !== undefined) {
      const agentId = await this.agentNamed(query.target);
      conditions.push([{ target: query.target }, ...(agentId === null ? [] : [{ agentId }])]);
    }
    return conditions;
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
  return actor.type === 'agent' ? (actor.agentId ?? NOBODY) : null;
}
