import { Injectable } from '@nestjs/common';
import { EgressClient, EgressError, type EgressResponse } from '../platform/egress/index.js';
import { publicId } from '../platform/ids/index.js';
import type { AttemptOutcome, ClaimedDelivery } from './deliveries.queries.js';
import { type DeliveryInfo, deliveryInfoOf, withDeliveryInfo } from './delivery-info.js';
import { messageId } from './event-body.js';
import { pauseMs, retryAfterSeconds } from './retry-policy.js';
import { signatureHeaders } from './signature.js';
import { WebhookSecrets } from './webhook-secrets.js';

const TIMEOUT_MS = 15_000;
const SNIPPET_BYTES = 1024;
const GONE = 410;
/** Pauses after a request that was not made, because its host was busy or its circuit was open. */
const BUSY_MS = 500;
const LEFT_ALONE_MS = 15_000;

/** Error code of a delivery that was not sent because its event had expired. */
export const EVENT_EXPIRED = 'EXPIRED';

/** An expired event tells nothing about the receiver. */
const EXPIRED = {
  result: 'failed',
  errorCode: EVENT_EXPIRED,
  error: 'The event expired before it was delivered',
  pauseMs: 0,
  statusCode: null,
  latencyMs: null,
  responseSnippet: null,
  deliveryInfo: null,
} as const;

/** Makes one request to a receiver and interprets the answer. */
@Injectable()
export class DeliveryAttempt {
  constructor(
    private readonly egress: EgressClient,
    private readonly secrets: WebhookSecrets,
  ) {}

  /** Never rejects. Redirects are not followed and count as failures. */
  async run(delivery: ClaimedDelivery): Promise<AttemptOutcome> {
    const at = new Date();
    const base = { deliveryId: delivery.id, webhookId: delivery.webhookId, n: delivery.attempts, at };
    if (delivery.expiresAt && delivery.expiresAt <= at) return { ...base, ...EXPIRED };
    const info = deliveryInfoOf(delivery, at);
    const body = withDeliveryInfo(delivery.body, info);
    const sent = { ...base, deliveryInfo: JSON.stringify(info) };
    try {
      const response = await this.egress.request({
        method: 'POST',
        url: delivery.url,
        headers: this.headers(delivery, at, body, info),
        body,
        timeoutMs: TIMEOUT_MS,
      });
      const { status: statusCode, durationMs: latencyMs } = response;
      const responseSnippet = snippetOf(response.body);
      return { ...sent, statusCode, latencyMs, responseSnippet, ...meaningOf(delivery, response) };
    } catch (cause) {
      const { code, message } = describe(cause);
      const error = { statusCode: null, responseSnippet: null, errorCode: code, error: message };
      if (code === 'BUSY' || code === 'CIRCUIT_OPEN') {
        const pause = (code === 'BUSY' ? BUSY_MS : LEFT_ALONE_MS) * (1 + Math.random());
        return { ...sent, ...error, result: 'unsent', pauseMs: pause, latencyMs: null };
      }
      return { ...sent, ...error, ...again(delivery), latencyMs: Date.now() - at.getTime() };
    }
  }

  private headers(delivery: ClaimedDelivery, now: Date, body: Buffer, info: DeliveryInfo): Record<string, string> {
    const message = {
      id: messageId(delivery.eventType, delivery.eventId),
      timestamp: Math.floor(now.getTime() / 1000),
      body,
    };
    return {
      'content-type': 'application/json',
      'user-agent': 'Nexus-Webhooks/1',
      'x-nexus-event': delivery.eventType,
      'x-nexus-delivery': `${publicId('dlv', delivery.id)}.${delivery.attempts}`,
      'x-nexus-attempt': String(info.attempt),
      'x-nexus-max-attempts': String(info.max_attempts),
      ...(delivery.replayId ? { 'x-nexus-replay': publicId('replay', delivery.replayId) } : {}),
      ...signatureHeaders(message, this.secrets.open(delivery.webhookId, delivery)),
    };
  }
}

function meaningOf(
  delivery: ClaimedDelivery,
  { status, headers }: EgressResponse,
): Pick<AttemptOutcome, 'result' | 'pauseMs' | 'errorCode' | 'error'> {
  if (status >= 200 && status < 300) return { result: 'delivered', pauseMs: 0, errorCode: null, error: null };
  if (status === GONE) {
    return { result: 'failed', pauseMs: 0, errorCode: 'GONE', error: 'The receiver wants no more deliveries' };
  }
  const redirect = status >= 300 && status < 400;
  return {
    ...again(delivery, retryAfterSeconds(headers['retry-after'], Date.now())),
    errorCode: redirect ? 'REDIRECT' : 'HTTP_STATUS',
    error: redirect ? 'Redirects are not followed' : `The receiver answered ${status}`,
  };
}

function again(delivery: ClaimedDelivery, askedSeconds = 0): Pick<AttemptOutcome, 'result' | 'pauseMs'> {
  const pause = pauseMs(delivery.retryConfig, delivery.failures + 1, askedSeconds);
  return pause === null ? { result: 'failed', pauseMs: 0 } : { result: 'retry', pauseMs: pause };
}

function describe(cause: unknown): { code: string; message: string } {
  if (cause instanceof EgressError) return { code: cause.code, message: cause.message.slice(0, 500) };
  // An internal error, such as a secret that cannot be decrypted. The owner is not shown its details.
  return { code: 'INTERNAL', message: 'The delivery could not be prepared' };
}

/** The text without characters that PostgreSQL cannot store. */
function snippetOf(body: Buffer): string {
  return body.subarray(0, SNIPPET_BYTES).toString('utf8').replaceAll('\0', '\uFFFD');
}
