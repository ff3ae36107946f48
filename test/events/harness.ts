import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import { actor } from '../support/actors.js';
import { type Answer, startTestApp, type TestApp } from '../support/app.js';
import { Receiver } from '../webhooks/receiver.js';

export interface Envelope<Data> {
  success: boolean;
  data: Data;
  error: { code: string; message: string; limit?: number; details: { field: string; issue: string }[] };
}

export interface EmittedEvent {
  event_id: string;
  type: string;
  event_type: string;
  timestamp: string;
  status: string;
  source: string;
  priority: string;
  correlation_id: string | null;
  expires_at: string | null;
  subscriber_count: number;
  data: Record<string, unknown>;
  metadata: Record<string, unknown> | null;
  actor_id: string;
}

export interface Subscription {
  subscription_id: string;
  name: string;
  event_patterns: string[];
  filters: object | null;
  delivery_method: string;
  webhook_config: { url: string; webhook_id: string; secret?: string; retry_config: { max_retries: number } } | null;
  batch_config: object | null;
  enabled: boolean;
  status: string;
  owner_id: string;
  version: number;
}

/** A server that may deliver to loopback, an administrator, and a receiver. */
export class EventBench {
  private constructor(
    readonly app: TestApp,
    readonly receiver: Receiver,
    readonly key: string,
    readonly userId: string,
  ) {}

  static async start(env: Record<string, string> = {}): Promise<EventBench> {
    const app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.1', ...env });
    const { key, userId } = await actor(app);
    return new EventBench(app, await Receiver.start(), key, userId);
  }

  async stop(): Promise<void> {
    await this.receiver.stop();
    await this.app.stop();
  }

  call<Data>(
    method: string,
    path: string,
    body?: object,
    options: { key?: string; headers?: Record<string, string> } = {},
  ): Promise<Answer<Envelope<Data>>> {
    return this.app.call(method, `/api/v1/events${path}`, { key: this.key, ...options, body });
  }

  async emit(type: string, extra: object = {}): Promise<EmittedEvent> {
    const answer = await this.call<{ event: EmittedEvent }>('POST', '', { type, data: { n: 1 }, ...extra });
    expect(answer.status, answer.text).toBe(201);
    return answer.body.data.event;
  }

  async subscribe(body: object, key = this.key): Promise<Subscription> {
    const answer = await this.call<{ subscription: Subscription }>(
      'POST',
      '/subscriptions',
      { name: 'A test', ...body },
      { key },
    );
    expect(answer.status, answer.text).toBe(201);
    return answer.body.data.subscription;
  }

  /** A namespace that no other test uses. */
  static ownName(): string {
    return `t${randomUUID().replaceAll('-', '')}`;
  }
}
