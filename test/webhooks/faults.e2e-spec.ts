import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import https from 'node:https';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/app.js';
import { freePort } from '../support/nexus-process.js';
import { WebhookBench } from './harness.js';
import { type Answer, eventBytes, payloadOf, Receiver, status } from './receiver.js';

const TIMEOUT_MS = 15_000;
const ONCE = { retry_config: { max_retries: 0 } };

let bench: WebhookBench;

beforeAll(async () => {
  bench = await WebhookBench.start({ NEXUS_WEBHOOK_DISABLE_AFTER_FAILURES: '6' });
});
beforeEach(() => {
  bench.receiver.answer = status(204);
});
afterAll(() => bench.stop());

/** Lets a receiver of its own misbehave on one delivery that has a single attempt. */
async function deliverOnceTo(answer: Answer): Promise<{
  delivery: Awaited<ReturnType<WebhookBench['finished']>>;
  requests: number;
}> {
  const receiver = await Receiver.start();
  receiver.answer = answer;
  try {
    const { id } = await bench.register({ ...ONCE, url: receiver.url() });
    await bench.publish();
    const delivery = await bench.finished(id, 25_000);
    await bench.remove(id);
    return { delivery, requests: receiver.received.length };
  } finally {
    await receiver.stop();
  }
}

function drip(response: ServerResponse): void {
  response.writeHead(200);
  const timer = setInterval(() => response.write('.'), 200);
  response.on('close', () => clearInterval(timer));
}

function flood(response: ServerResponse): void {
  const chunk = Buffer.alloc(1 << 20, 'x');
  let left = 1024;
  response.writeHead(200, { 'content-length': chunk.length * left });
  const write = (): void => {
    while (left-- > 0) if (!response.write(chunk)) return void response.once('drain', write);
    response.end();
  };
  write();
}

describe('a receiver that', () => {
  it('hangs or drips is given up after 15 seconds, and logged', async () => {
    const ended = await Promise.all([deliverOnceTo(() => undefined), deliverOnceTo(drip)]);
    for (const { delivery } of ended) {
      expect(delivery).toMatchObject({ status: 'failed', next_attempt_at: null });
      expect(delivery.attempts).toEqual([
        expect.objectContaining({ attempt: 1, status_code: null, error_code: 'TIMEOUT' }),
      ]);
      const latency = delivery.attempts[0].latency_ms ?? 0;
      expect(latency).toBeGreaterThan(TIMEOUT_MS - 100);
      expect(latency).toBeLessThan(TIMEOUT_MS + 3000);
    }
  });

  it('redirects has failed: nothing is followed', async () => {
    const before = bench.receiver.received.length;
    const target = bench.receiver.url('/elsewhere');
    const { delivery, requests } = await deliverOnceTo(status(307, { location: target }));
    expect(delivery.status).toBe('failed');
    expect(delivery.attempts[0]).toMatchObject({ status_code: 307, error_code: 'REDIRECT' });
    expect(requests).toBe(1);
    expect(bench.receiver.received.length).toBe(before);
  });

  it('answers a gigabyte is cut off; its status counts and its first kilobyte is kept', async () => {
    const before = process.memoryUsage().rss;
    const { delivery } = await deliverOnceTo(flood);
    expect(delivery.status).toBe('delivered');
    expect(delivery.attempts[0].response_snippet).toBe('x'.repeat(1024));
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  });

  it('answers what no text column can hold is logged all the same', async () => {
    const { delivery } = await deliverOnceTo((response) => response.writeHead(500).end(Buffer.from([0, 0xff, 0x41])));
    expect(delivery.attempts[0].response_snippet).toBe('\uFFFD\uFFFDA');
  });

  it('cuts the connection has failed', async () => {
    const { delivery } = await deliverOnceTo((response) => response.destroy());
    expect(delivery.attempts[0]).toMatchObject({ status_code: null, error_code: 'PROTOCOL' });
  });

  it('is not there has failed', async () => {
    const { id } = await bench.register({ ...ONCE, url: `http://127.0.0.1:${await freePort()}/` });
    await bench.publish();
    expect((await bench.finished(id)).attempts[0]).toMatchObject({ status_code: null, error_code: 'CONNECT' });
    await bench.remove(id);
  });

  it('has a certificate that nobody vouches for is not spoken to', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'nexus-tls-'));
    const [key, cert] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')];
    const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    execFileSync('openssl', [...made, '-subj', '/CN=127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'ignore' });
    let requests = 0;
    const server = https.createServer(
      { key: await readFile(key), cert: await readFile(cert) },
      (_request, response) => {
        requests++;
        response.end();
      },
    );
    server.on('tlsClientError', () => undefined).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const { id } = await bench.register({ ...ONCE, url: `https://127.0.0.1:${port}/` });
      await bench.publish();
      expect((await bench.finished(id)).attempts[0]).toMatchObject({ status_code: null, error_code: 'TLS' });
      expect(requests).toBe(0);
      await bench.remove(id);
    } finally {
      server.close();
      await rm(folder, { recursive: true });
    }
  });
});

describe('retries', () => {
  it('come with growing pauses and the same event, and end', async () => {
    const { id, path: at } = await bench.register({ retry_config: { max_retries: 2, retry_delay_seconds: 1 } });
    bench.receiver.answer = status(503, {}, 'upstream is down');
    await bench.publish();
    const delivery = await bench.finished(id, 20_000);
    expect(delivery.status).toBe('failed');
    expect(delivery.attempts.map((a) => [a.attempt, a.status_code, a.error_code, a.response_snippet])).toEqual(
      [1, 2, 3].map((n) => [n, 503, 'HTTP_STATUS', 'upstream is down']),
    );
    const [first, second, third] = bench.receiver.at(at);
    expect(second.at - first.at).toBeGreaterThanOrEqual(950);
    expect(third.at - second.at).toBeGreaterThanOrEqual(1950);
    expect(new Set([first, second, third].map(eventBytes)).size).toBe(1);
    const told = [first, second, third].map((r) => payloadOf(r).delivery_info);
    expect(told.map(({ attempt, max_attempts }) => [attempt, max_attempts])).toEqual([1, 2, 3].map((n) => [n, 3]));
    expect(told[2].next_retry).toBeNull();
    // The log keeps what each attempt said: with the stored event it makes up the exact bytes.
    expect(delivery.attempts.map((a) => a.delivery_info)).toEqual(told);
    for (const [n, next] of [second, third].entries()) {
      expect(next.at).toBeGreaterThanOrEqual(Date.parse(String(told[n].next_retry)));
    }
    expect(new Set([first, second, third].map((r) => r.headers['webhook-id'])).size).toBe(1);
    expect(new Set([first, second, third].map((r) => r.headers['x-nexus-delivery'])).size).toBe(3);
    await bench.remove(id);
  });

  it('end with the first success', async () => {
    const { id, path: at } = await bench.register({ retry_config: { max_retries: 3, retry_delay_seconds: 1 } });
    bench.receiver.answer = (response) => response.writeHead(bench.receiver.at(at).length < 2 ? 500 : 200).end();
    await bench.publish();
    const delivery = await bench.finished(id);
    expect(delivery).toMatchObject({ status: 'delivered' });
    expect(delivery.attempts.map((a) => a.status_code)).toEqual([500, 200]);
    const shown = await bench.app.call('GET', `/api/v1/webhooks/${id}`, { key: bench.key });
    expect(shown.body).toMatchObject({ consecutive_failures: 0, failing_since: null });
    await bench.remove(id);
  });

  it('wait for as long as a 429 asks', async () => {
    const { id } = await bench.register({ retry_config: { max_retries: 3, retry_delay_seconds: 1 } });
    bench.receiver.answer = status(429, { 'retry-after': '3600' });
    await bench.publish();
    const { attempts, next_attempt_at } = await bench.attempted(id, 1);
    const pause = Date.parse(next_attempt_at ?? '') - Date.parse(attempts[0].at);
    expect(pause).toBeGreaterThanOrEqual(3_599_000);
    expect(pause).toBeLessThan(3_600_000 * 1.21);
    await bench.remove(id);
  });
});

describe('a webhook is disabled, and the event says so,', () => {
  it('at once when its receiver is gone (410)', async () => {
    const witness = await bench.register({ events: ['webhook.disabled'] });
    const { id, path: at } = await bench.register();
    bench.receiver.answer = (response, request) => response.writeHead(request.path === at ? 410 : 200).end();
    await bench.publish();
    const told = await eventually(() => bench.receiver.at(witness.path)[0]);
    expect(payloadOf(told)).toMatchObject({ type: 'webhook.disabled', data: { webhook_id: id, reason: 'gone' } });
    const shown = await bench.app.call('GET', `/api/v1/webhooks/${id}`, { key: bench.key });
    expect(shown.body).toMatchObject({ active: false, status: 'disabled', disabled_reason: 'gone' });
    expect((await bench.finished(id)).attempts.map((a) => a.status_code)).toEqual([410]);

    bench.receiver.answer = status(200);
    const revive = await bench.app.call('PATCH', `/api/v1/webhooks/${id}`, { key: bench.key, body: { active: true } });
    expect(revive.body).toMatchObject({ status: 'active', disabled_at: null, consecutive_failures: 0 });
    const name = await bench.publish();
    await eventually(() => bench.receiver.at(at).find((r) => payloadOf(r).data.agent_name === name));
    await bench.remove(witness.id, id);
  });

  it('once, when it has done nothing but fail for five days', async () => {
    const witness = await bench.register({ events: ['webhook.disabled'] });
    const { id, path: at } = await bench.register(ONCE);
    bench.receiver.answer = (response, request) => response.writeHead(request.path === at ? 500 : 204).end();
    const failingFor = (age: string): Promise<unknown> =>
      bench.app.db.query(`UPDATE webhooks SET failing_since = now() - $2::interval WHERE id = $1`, [
        id.slice('webhook_'.length),
        age,
      ]);
    const shown = async (): Promise<Record<string, unknown>> =>
      (await bench.app.call('GET', `/api/v1/webhooks/${id}`, { key: bench.key })).body;
    const failOnce = async (failures: number): Promise<void> => {
      await bench.publish();
      await eventually(async () => (await shown()).consecutive_failures === failures);
    };
    await failOnce(1);
    await failingFor('4 days 23 hours');
    await failOnce(2);
    expect(await shown()).toMatchObject({ status: 'active', disabled_reason: null });
    // A success in between starts the five days anew.
    bench.receiver.answer = status(204);
    await bench.publish();
    await eventually(async () => (await shown()).failing_since === null);
    bench.receiver.answer = (response, request) => response.writeHead(request.path === at ? 500 : 204).end();
    await failOnce(1);
    await failingFor('5 days 1 minute');
    await Promise.all([bench.publish(), bench.publish(), bench.publish()]);
    const disabled = await eventually(async () => {
      const webhook = await shown();
      return webhook.status === 'disabled' && (webhook.stats as { pending: number }).pending === 0 && webhook;
    });
    expect(disabled.disabled_reason).toBe('failing');
    const told = await eventually(() => bench.receiver.at(witness.path)[0]);
    expect(payloadOf(told)).toMatchObject({ type: 'webhook.disabled', data: { webhook_id: id, reason: 'failing' } });
    const events = await bench.app.db.query(
      `SELECT 1 FROM events WHERE type = 'webhook.disabled' AND data ->> 'webhook_id' = $1`,
      [id],
    );
    expect(events).toHaveLength(1);
    // Nothing that happens from now on is sent.
    const other = await bench.register();
    const name = await bench.publish();
    await eventually(() => bench.receiver.at(other.path).length > 0);
    expect(bench.receiver.at(at).filter((r) => payloadOf(r).data.agent_name === name)).toEqual([]);
    await bench.remove(witness.id, id, other.id);
  });

  it('when it has failed too often in a row, with what waited given up and recoverable', async () => {
    const { id, path: at } = await bench.register({ retry_config: { max_retries: 5, retry_delay_seconds: 3600 } });
    bench.receiver.answer = status(500);
    const since = new Date().toISOString();
    for (let n = 0; n < 6; n++) await bench.publish();
    const shown = await eventually(async () => {
      const { body } = await bench.app.call('GET', `/api/v1/webhooks/${id}`, { key: bench.key });
      return body.status === 'disabled' && body;
    });
    expect(shown).toMatchObject({ disabled_reason: 'failing', consecutive_failures: 6, stats: { pending: 0 } });
    bench.receiver.answer = status(200);
    await bench.app.call('PATCH', `/api/v1/webhooks/${id}`, { key: bench.key, body: { active: true } });
    await bench.app.call('POST', `/api/v1/webhooks/${id}/recover?since=${since}`, { key: bench.key });
    await eventually(async () => (await bench.deliveriesOf(id, '?status=delivered')).length === 6);
    expect(new Set(bench.receiver.at(at).map((r) => r.headers['webhook-id'])).size).toBe(6);
    await bench.remove(id);
  });
});

describe('an unreachable address', () => {
  it('reached by changing rules or names gets nothing, whatever was registered', async () => {
    const { id } = await bench.register(ONCE);
    // As if the name had led to a public address when it was registered.
    await bench.app.db.query(`UPDATE webhooks SET url = 'http://169.254.169.254/latest' WHERE id = $1`, [
      id.slice('webhook_'.length),
    ]);
    await bench.publish();
    expect((await bench.finished(id)).attempts[0]).toMatchObject({ status_code: null, error_code: 'BLOCKED' });
    await bench.remove(id);
  });
});

describe('dead receivers', () => {
  it('that hang, forty of them, do not hold up a good one', async () => {
    const dead = await Receiver.start();
    dead.answer = () => undefined;
    try {
      const ids: string[] = [];
      for (let n = 0; n < 40; n++) ids.push((await bench.register({ url: dead.url(`/${n}`) })).id);
      const good = await bench.register();
      const latencies: number[] = [];
      for (let n = 0; n < 20; n++) {
        const start = Date.now();
        const name = await bench.publish();
        const got = await eventually(() =>
          bench.receiver.at(good.path).find((r) => payloadOf(r).data.agent_name === name),
        );
        latencies.push(got.at - start);
      }
      // Held up would be until the others time out, 15 seconds.
      expect(Math.max(...latencies)).toBeLessThan(10_000);
      await dead.stop();
      await bench.remove(good.id, ...ids);
    } finally {
      await dead.stop();
    }
  });
});
