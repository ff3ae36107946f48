import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { DeadLetters, type DeadLetterSummary } from '../platform/events/index.js';
import { Deletions, resolvePage } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import type {
  DeadLetterDetailDto,
  DeadLetterDto,
  DeadLetterListDto,
  DeadLetterQueryDto,
  RetriedDeadLettersDto,
} from './dead-letters.dto.js';

/** The dead letters of event handlers as the API shows them. */
@Injectable()
export class DeadLettersService {
  constructor(
    private readonly db: Database,
    private readonly deadLetters: DeadLetters,
    private readonly deletions: Deletions,
  ) {}

  async list(query: DeadLetterQueryDto): Promise<DeadLetterListDto> {
    const page = resolvePage(query, { default: 20, max: 100 });
    const { handler, event_type: eventType, status } = query;
    const { rows, pagination } = await this.deadLetters.list({ handler, eventType, status }, page);
    return { dead_letters: rows.map(toDeadLetterDto), pagination };
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<DeadLetterDetailDto> {
    const letter = await this.deadLetters.find(id);
    if (!letter) throw notFound(id);
    const { type, occurredAt, subject, data } = letter.event;
    const event_id = publicId('evt', letter.eventId);
    return {
      ...toDeadLetterDto(letter),
      event: { event_id, event_type: type, timestamp: occurredAt, subject, data },
    };
  }

  /** @throws AppError `not_found`, or `conflict` when it is on its way or its handler is no more */
  async retry(id: string): Promise<DeadLetterDto> {
    const letter = await this.db.transaction((tx) => this.deadLetters.retry(tx, id));
    if (!letter) throw notFound(id);
    return toDeadLetterDto(letter);
  }

  /** @throws AppError `validation` when there is no such handler */
  async retryAll(handler: string): Promise<RetriedDeadLettersDto> {
    return { handler, ...(await this.db.transaction((tx) => this.deadLetters.retryAll(tx, handler))) };
  }

  /** @throws AppError `not_found` */
  discard(id: string): Promise<void> {
    return this.deletions.once(publicId('dead', id), async (tx) => {
      if (!(await this.deadLetters.discard(tx, id))) throw notFound(id);
    });
  }
}

function notFound(id: string): AppError {
  return AppError.notFound('dead_letter', publicId('dead', id));
}

function toDeadLetterDto(letter: DeadLetterSummary): DeadLetterDto {
  const { id, handler, status, error, attempts, retries } = letter;
  return {
    dead_letter_id: publicId('dead', id),
    handler,
    event_id: publicId('evt', letter.eventId),
    event_type: letter.eventType,
    status,
    error,
    attempts,
    retries,
    first_failed_at: letter.firstFailedAt.toISOString(),
    failed_at: letter.failedAt.toISOString(),
  };
}
