import { expect } from 'vitest';
import { actor } from '../support/actors.js';
import { type Answer, eventually, startTestApp, type TestApp } from '../support/app.js';

export interface Rule {
  rule_id: string;
  name: string;
  version: number;
  enabled: boolean;
  severity: string;
  condition: string | null;
  group_by: string[];
  for_seconds: number;
  error: { code: string; details: { field: string; issue: string }[] };
}

export interface Alert {
  alert_id: string;
  rule_id: string;
  status: 'active' | 'cleared';
  severity: string;
  source: string | null;
  group: Record<string, string>;
  value: number | null;
  last_value: number | null;
  count: number;
  acknowledged: boolean;
  acknowledged_by: string | null;
  clear_reason: string | null;
  cleared_by: string | null;
  silenced: boolean;
  notes: { by: string; action: string; text: string }[];
  actions: { type: string; command_id?: string; error?: string }[];
}

/** Waiting limit for what takes seconds by itself, on a machine that is busy with something else. */
export const PATIENT_MS = 60_000;

let sources = 0;

/** A server, an administrator, and short words for what the tests of alerts do all the time. */
export class AlertBench {
  private constructor(
    readonly app: TestApp,
    readonly key: string,
  ) {}

  static async start(env: Record<string, string> = {}): Promise<AlertBench> {
    const app = await startTestApp(env);
    return new AlertBench(app, (await actor(app)).key);
  }

  stop(): Promise<void> {
    return this.app.stop();
  }

  /** A source that no other test uses. */
  source(): string {
    return `host-${++sources}`;
  }

  call<Body>(method: string, path: string, body?: unknown, key = this.key): Promise<Answer<Body>> {
    return this.app.call<Body>(method, `/api/v1/telemetry${path}`, { key, body });
  }

  /** A rule on `cpu_usage` above 90 of this source alone. */
  async rule(source: string, more: Record<string, unknown> = {}): Promise<Rule> {
    const answer = await this.call<Rule>('POST', '/rules', {
      name: `rule of ${source}`,
      metric_name: 'cpu_usage',
      operator: 'gt',
      threshold: 90,
      sources: [source],
      ...more,
    });
    expect(answer.text).toContain('rule_id');
    expect(answer.status).toBe(201);
    return answer.body;
  }

  /** A value of `cpu_usage`. `at`: seconds before now. */
  async send(source: string, value: number, more: { at?: number; tags?: Record<string, string> } = {}): Promise<void> {
    const { at = 0, tags = {} } = more;
    await this.submit({
      event_type: 'system.metric',
      source,
      timestamp: new Date(Date.now() - at * 1000).toISOString(),
      data: { metric_name: 'cpu_usage', value, unit: 'percent', tags },
    });
  }

  async submit(event: Record<string, unknown>): Promise<void> {
    const answer = await this.call('POST', '/events', event);
    expect(answer.text).toContain('accepted');
  }

  async alerts(source: string, query = ''): Promise<Alert[]> {
    const answer = await this.call<{ alerts: Alert[] }>('GET', `/alerts?source=${source}&limit=100${query}`);
    expect(answer.status).toBe(200);
    return answer.body.alerts;
  }

  /** The newest alert of the source once it is like this. */
  until(source: string, like: Partial<Alert>, timeoutMs = PATIENT_MS): Promise<Alert> {
    return eventually(async () => {
      const [alert] = await this.alerts(source);
      return alert && Object.entries(like).every(([name, value]) => alert[name as keyof Alert] === value) && alert;
    }, timeoutMs);
  }

  /** Types of the events that told of the source's alerts, in order. */
  async told(source: string): Promise<string[]> {
    const rows = await this.app.db.query<{ type: string }>(
      `SELECT type FROM events WHERE data->>'source' = $1 ORDER BY position`,
      [source],
    );
    return rows.map(({ type }) => type);
  }
}

export const RAISED = 'telemetry.alert';
export const RESOLVED = 'telemetry.alert.resolved';
