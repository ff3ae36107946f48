import { Injectable } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks } from '../platform/background/index.js';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventHandlers, type HistoryFilter, SERVER_SOURCE } from '../platform/events/index.js';
import { parsePublicId, publicId } from '../platform/ids/index.js';
import { ManagedWebhooks, WebhookReplays } from '../webhooks/index.js';
import { instantOf, numberIn, toOperationDto } from './event-operation.js';
import type { CreateReplayDto, ReplayDto, ReplayFilterDto } from './replay.dto.js';
import { ReplayEvents, type ReplayInput } from './replay.task.js';

const DEFAULT_DELAY_MS = 100;

/** Sends past events to subscribers again. */
@Injectable()
export class ReplayService {
  constructor(
    private readonly db: Database,
    private readonly tasks: BackgroundTasks,
    private readonly webhooks: WebhookReplays,
    private readonly managed: ManagedWebhooks,
    private readonly handlers: EventHandlers,
  ) {}

  /** @throws AppError `validation`, or `rate_limited` when too many replays are open */
  async start(actor: Actor, dto: CreateReplayDto): Promise<ReplayDto> {
    const { replay_mode: mode = 'immediate', delay_between_events_ms: delayMs = DEFAULT_DELAY_MS } = dto;
    if (mode === 'immediate' && dto.delay_between_events_ms !== undefined) {
      throw AppError.validation({
        field: 'delay_between_events_ms',
        issue: 'goes with replay_mode paced',
        expected: 'replay_mode paced',
      });
    }
    const filter = filterOf(dto.event_filter);
    const targets = await this.targetsOf(dto.target_subscribers);
    return this.db.transaction(async (tx) => {
      const task = await this.tasks.start(tx, ReplayEvents, { filter, ...targets, mode, delayMs }, actor);
      const context = currentContext();
      if (context) context.resourceId = publicId('replay', task.id);
      return toReplayDto(task);
    });
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<ReplayDto> {
    const task = await this.find(id);
    return { ...toReplayDto(task), delivery_info: await this.webhooks.outcome(id) };
  }

  /** What was begun is delivered all the same. @throws AppError `not_found`, or `conflict` when it has ended otherwise */
  async cancel(actor: Actor, id: string): Promise<ReplayDto> {
    await this.find(id);
    await this.db.transaction((tx) => this.tasks.cancel(tx, id, actor));
    return this.get(id);
  }

  private async find(id: string): Promise<BackgroundTask<ReplayInput>> {
    const task = await this.tasks.find(ReplayEvents, id);
    if (!task) throw AppError.notFound('replay', publicId('replay', id));
    return task;
  }

  private async targetsOf(names: readonly string[] | undefined): Promise<Pick<ReplayInput, 'webhookIds' | 'handlers'>> {
    if (!names) return { webhookIds: null, handlers: [] };
    const webhooks = new Map<string, string>();
    const handlers: string[] = [];
    const unique = [...new Set(names)];
    const ofSubscriptions = await this.managed.of(
      unique.map((name) => parsePublicId('sub', name)).filter((id) => id !== null),
    );
    for (const name of unique) {
      const id = parsePublicId('webhook', name) ?? ofSubscriptions.get(parsePublicId('sub', name) ?? '')?.id;
      if (id) webhooks.set(id, name);
      else handlers.push(name);
    }
    const unknown = await this.webhooks.unknown([...webhooks.keys()]);
    const wrong = [
      ...unknown.map((id) => ({ name: webhooks.get(id) as string, issue: 'is no active webhook' })),
      ...handlers
        .filter((name) => !this.handlers.get(name))
        .map((name) => ({
          name,
          issue: `is neither a webhook, nor a subscription with one, nor one of ${this.handlers.names().join(', ')}`,
        })),
    ];
    if (wrong.length > 0) {
      throw AppError.validation(
        wrong.map(({ name, issue }) => ({
          field: `target_subscribers.${names.indexOf(name)}`,
          issue,
          expected: 'the id of an active webhook or its subscription, or the name of a handler',
          received: name,
        })),
      );
    }
    return { webhookIds: [...webhooks.keys()], handlers };
  }
}

/** @throws AppError `validation` when it means everything, or nothing */
function filterOf(dto: ReplayFilterDto): HistoryFilter & { to: string } {
  const now = new Date();
  if (!dto.start_time && !dto.event_ids && !dto.correlation_id) {
    const issue = 'start_time, event_ids or correlation_id is needed';
    throw AppError.validation({ field: 'event_filter', issue, expected: 'a filter that names events' });
  }
  const from = dto.start_time ? instantOf('event_filter.start_time', dto.start_time) : undefined;
  const end = dto.end_time ? instantOf('event_filter.end_time', dto.end_time) : now;
  if (from && from >= end) {
    throw AppError.validation({ field: 'event_filter.start_time', issue: 'must be before end_time and now' });
  }
  return {
    types: dto.event_types,
    from: from?.toISOString(),
    to: (end < now ? end : now).toISOString(),
    source: dto.source === SERVER_SOURCE ? null : dto.source,
    correlationId: dto.correlation_id,
    ids: dto.event_ids?.map((id) => parsePublicId('evt', id) as string),
    // Nobody is told of what has expired.
    expired: false,
  };
}

function toReplayDto(task: BackgroundTask<ReplayInput>): ReplayDto {
  return {
    replay_id: publicId('replay', task.id),
    ...toOperationDto(task),
    replay_mode: task.input.mode,
    replayed: numberIn(task, 'replayed') ?? 0,
    deliveries: numberIn(task, 'deliveries') ?? 0,
    handler_jobs: numberIn(task, 'handler_jobs') ?? 0,
  };
}
