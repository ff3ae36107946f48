import { Injectable } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks } from '../platform/background/index.js';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { SERVER_SOURCE } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import { instantOf, numberIn, toOperationDto } from './event-operation.js';
import type { CreatePurgeDto, PurgeCriteriaDto, PurgeDto } from './purge.dto.js';
import { PurgeMatching, type PurgeInput } from './purge.task.js';

const DEFAULT_BATCH = 500;
const UNITS_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** Streams and handlers in all processes have seen by then what was relayed. */
const YOUNGEST_MS = 60_000;

/** Deletes events before their retention ends. */
@Injectable()
export class PurgeService {
  constructor(
    private readonly db: Database,
    private readonly tasks: BackgroundTasks,
  ) {}

  /** @throws AppError `validation`, or `rate_limited` when too many purges are open */
  async start(
    actor: Actor,
    { criteria, dry_run = false, batch_size = DEFAULT_BATCH }: CreatePurgeDto,
  ): Promise<PurgeDto> {
    const { event_types: types, source, status } = criteria;
    const filter = {
      types,
      to: endOf(criteria),
      source: source === SERVER_SOURCE ? null : source,
      ...(status ? { expired: status === 'expired' } : {}),
    };
    return this.db.transaction(async (tx) => {
      const input = { filter, dryRun: dry_run, batchSize: batch_size };
      const task = await this.tasks.start(tx, PurgeMatching, input, actor);
      const context = currentContext();
      if (context) context.resourceId = publicId('purge', task.id);
      return toPurgeDto(task);
    });
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<PurgeDto> {
    const task = await this.tasks.find(PurgeMatching, id);
    if (!task) throw AppError.notFound('purge', publicId('purge', id));
    return toPurgeDto(task);
  }

  /** What was deleted stays so. @throws AppError `not_found`, or `conflict` when it has ended otherwise */
  async cancel(actor: Actor, id: string): Promise<PurgeDto> {
    await this.get(id);
    await this.db.transaction((tx) => this.tasks.cancel(tx, id, actor));
    return this.get(id);
  }
}

/** @throws AppError `validation` unless there is one of before and older_than */
function endOf({ before, older_than }: PurgeCriteriaDto): string {
  if ((before === undefined) === (older_than === undefined)) {
    throw AppError.validation({
      field: 'criteria.before',
      issue: 'one of before and older_than is needed',
      expected: 'before or older_than',
    });
  }
  const now = Date.now();
  const end = older_than
    ? now - Number(older_than.slice(0, -1)) * UNITS_MS[older_than.slice(-1) as keyof typeof UNITS_MS]
    : instantOf('criteria.before', before as string).getTime();
  return new Date(Math.min(end, now - YOUNGEST_MS)).toISOString();
}

function toPurgeDto(task: BackgroundTask<PurgeInput>): PurgeDto {
  return {
    purge_id: publicId('purge', task.id),
    ...toOperationDto(task),
    dry_run: task.input.dryRun,
    before: task.input.filter.to,
    deleted: numberIn(task, 'deleted') ?? 0,
    kept: numberIn(task, 'kept') ?? 0,
  };
}
