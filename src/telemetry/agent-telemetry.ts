import { Injectable, type OnModuleInit } from '@nestjs/common';
import { AgentLinks } from '../agents/index.js';
import { isAppError } from '../platform/errors/index.js';
import { Logger } from '../platform/observability/index.js';
import { TelemetryIngest } from './telemetry-ingest.js';

/** Takes the telemetry of agents off their links: acknowledged once it is committed, sent back when there is too much. */
@Injectable()
export class AgentTelemetry implements OnModuleInit {
  constructor(
    private readonly links: AgentLinks,
    private readonly ingest: TelemetryIngest,
    private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.links.handle('telemetry', async (link, { batch_id: batchId, events }) => {
      try {
        const batch = await this.ingest.submitBatch(link.actor, { events }, { keep: false });
        link.send({
          type: 'telemetry_ack',
          batch_id: batchId,
          accepted: batch.acceptedCount,
          duplicates: batch.duplicateCount,
          rejected: batch.errors.map(({ index, field, issue }) => ({ index, issue: `${field} ${issue}`.trim() })),
          warnings: batch.warnings.map(({ index = 0, field, message }) => ({ index, issue: `${field} ${message}` })),
        });
      } catch (error) {
        if (isAppError(error) && !error.retryable) {
          // It will never be taken: the agent must not send it again.
          const rejected = events.map((_event, index) => ({ index, issue: error.message }));
          link.send({ type: 'telemetry_ack', batch_id: batchId, accepted: 0, duplicates: 0, rejected });
          return;
        }
        if (!isAppError(error)) this.logger.warn({ err: (error as Error).message }, 'Telemetry of an agent not stored');
        const seconds = (isAppError(error) ? error.retryAfter : undefined) ?? 1;
        link.send({ type: 'telemetry_nack', batch_id: batchId, retry_after_ms: seconds * 1000 });
      }
    });
  }
}
