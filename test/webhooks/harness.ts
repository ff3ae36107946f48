import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import { AgentRegistered } from '../../src/agents/agents.events.js';
import { EventBus } from '../../src/platform/events/index.js';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { Receiver } from './receiver.js';

export interface Delivery {
  delivery_id: string;
  event_id: string;
  event_type: string;
  status: string;
  next_attempt_at: string | null;
  finished_at: string | null;
  attempts: {
    attempt: number;
    at: string;
    status_code: number | null;
    latency_ms: number | null;
    error_code: string | null;
    response_snippet: string | null;
    delivery_info: object | null;
  }[];
}

export interface Registered {
  id: string;
  /** Path of the receiver that belongs to this webhook alone. */
  path: string;
  secret: string;
}

/** A server that may deliver to loopback, an administrator, and a receiver. */
export class WebhookBench {
  private constructor(
    readonly app: TestApp,
    readonly receiver: Receiver,
    readonly key: string,
  ) {}

  static async start(env: Record<string, string> = {}): Promise<WebhookBench> {
    const app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.1,localhost', ...env });
    return new WebhookBench(app, await Receiver.start(), (await actor(app)).key);
  }

  async stop(): Promise<void> {
    // Receivers that hang would hold up the server's end.
    await this.receiver.stop();
    await this.app.stop();
  }

  async register(body: Record<string, unknown> = {}): Promise<Registered> {
    const path = `/${randomUUID()}`;
    const answer = await this.app.call<{ webhook_id: string; secret: string }>('POST', '/api/v1/webhooks', {
      key: this.key,
      body: { url: this.receiver.url(path), events: ['ai.agent_registered'], ...body },
    });
    expect(answer.status).toBe(201);
    return { id: answer.body.webhook_id, path, secret: answer.body.secret };
  }

  /** Publishes one event; its name tells it from others. */
  async publish(name: string = randomUUID()): Promise<string> {
    const id = `agent_${randomUUID()}`;
    await this.app.db.transaction((tx) =>
      this.app.get(EventBus).publish(tx, AgentRegistered, id, { agent_id: id, agent_name: name, agent_type: 'test' }),
    );
    return name;
  }

  async deliveriesOf(id: string, query = ''): Promise<Delivery[]> {
    const answer = await this.app.call<{ deliveries: Delivery[] }>('GET', `/api/v1/webhooks/${id}/deliveries${query}`, {
      key: this.key,
    });
    expect(answer.status).toBe(200);
    return answer.body.deliveries;
  }

  /** The newest delivery that has ended, now or soon. */
  finished(id: string, timeoutMs?: number): Promise<Delivery> {
    return eventually(async () => (await this.deliveriesOf(id)).find((d) => d.status !== 'pending'), timeoutMs);
  }

  /** The newest delivery once it has so many attempts behind it. */
  attempted(id: string, attempts: number, timeoutMs?: number): Promise<Delivery> {
    return eventually(async () => (await this.deliveriesOf(id)).find((d) => d.attempts.length >= attempts), timeoutMs);
  }

  async remove(...ids: string[]): Promise<void> {
    for (const id of ids) {
      expect((await this.app.call('DELETE', `/api/v1/webhooks/${id}`, { key: this.key })).status).toBe(200);
    }
  }
}
