import { afterAll, beforeAll, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

let app: TestApp;
let key: string;
beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

it('creates one API key for many equal requests, shows it each time and audits each', async () => {
  const send = () =>
    app.call<{ data: { api_key?: string; key?: string } }>('POST', '/api/v1/auth/api-keys', {
      key,
      headers: { 'idempotency-key': 'make-one' },
      body: { name: 'made once', permissions: ['system:read'] },
    });
  const answers = await Promise.all([send(), send(), send(), send()]);
  answers.push(await send());
  expect(answers.map(({ status }) => status)).toEqual(Array(5).fill(201));
  expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
  expect(answers.filter(({ headers }) => headers.get('idempotency-replayed') === 'true')).toHaveLength(4);
  expect(answers[0].text).toMatch(/nexus_api_/);
  const [{ count }] = await app.db.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM credentials WHERE name = 'made once'`,
  );
  expect(count).toBe(1);
  await expect
    .poll(
      async () =>
        (
          await app.db.query<{ count: number }>(
            `SELECT count(*)::int AS count FROM audit_entries WHERE action = 'POST /api/v1/auth/api-keys' AND status_code = 201`,
          )
        )[0].count,
      { timeout: 5000 },
    )
    .toBe(5);
});

it('keeps nothing of a request that was refused', async () => {
  const send = (permissions: string[]) =>
    app.call('POST', '/api/v1/auth/api-keys', {
      key,
      headers: { 'idempotency-key': 'second-try' },
      body: { name: 'second try', permissions },
    });
  expect((await send(['no such scope'])).status).toBe(400);
  expect((await send(['system:read'])).status).toBe(201);
});

it('knows the key as a field of any body', async () => {
  const send = () =>
    app.call<{ hook_id: string }>('POST', '/api/v1/hooks', {
      key,
      body: { name: 'made-by-field', idempotency_key: 'make-a-hook' },
    });
  const [first, second] = [await send(), await send()];
  expect([first.status, second.status, second.text]).toEqual([201, 201, first.text]);
});
