import { defineEvent, payloadSchema } from '../platform/events/index.js';

export type DisabledReason = 'gone' | 'failing' | 'rights';

export const WebhookDisabled = defineEvent<{
  webhook_id: string;
  url: string;
  reason: DisabledReason;
  created_by: string;
  failing_since: string | null;
  consecutive_failures: number;
}>('webhook.disabled', {
  summary:
    'A webhook was switched off because its receiver is gone or has failed for too long, or who set it up lost the right to.',
  schema: payloadSchema({
    webhook_id: { type: 'string' },
    url: { type: 'string' },
    reason: { enum: ['gone', 'failing', 'rights'] },
    created_by: { type: 'string' },
    failing_since: { type: ['string', 'null'], format: 'date-time' },
    consecutive_failures: { type: 'integer' },
  }),
});

/** Sent to one webhook when its owner asks for it; never in the outbox. */
export const WebhookPing = defineEvent<{ webhook_id: string; message: string }>('webhook.ping', {
  summary: 'A test that somebody has asked for.',
  schema: payloadSchema({ webhook_id: { type: 'string' }, message: { type: 'string' } }),
});
