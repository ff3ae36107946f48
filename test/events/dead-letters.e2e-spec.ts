import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';

interface Letter {
  dead_letter_id: string;
  handler: string;
  event_id: string;
  status: string;
  error: string;
}

let app: TestApp;
let key: string;

beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
});
afterAll(() => app?.stop());

const call = (method: string, path: string, body?: object, as = key) =>
  app.call<{ data: Record<string, unknown> }>(method, `/api/v1/events/dead-letters${path}`, { key: as, body });

/** As a handler leaves it that has given up. */
async function dead(handler: string, minutesAgo = 0): Promise<string> {
  const event = { type: 'command.queued', occurredAt: '2026-01-01T00:00:00.000Z', subject: null, data: { n: 1 } };
  const [{ id }] = await app.db.query<{ id: string }>(
    `INSERT INTO event_dead_letters (handler, event_id, event_type, event, error, attempts, failed_at)
     VALUES ($1, $2, 'command.queued', $3, 'broken', 10, now() - $4 * interval '1 minute') RETURNING id`,
    [handler, randomUUID(), JSON.stringify({ ...event, id: randomUUID() }), minutesAgo],
  );
  return `dead_${id}`;
}

async function list(query = ''): Promise<{ dead_letters: Letter[]; pagination: Record<string, unknown> }> {
  const answer = await call('GET', query);
  expect(answer.status).toBe(200);
  return answer.body.data as never;
}

it('are listed page by page, filtered, shown with their event and discarded', async () => {
  const ids = [await dead('old.handler', 3), await dead('old.handler', 2), await dead('older.handler', 1)];
  const first = await list('?limit=2');
  expect(first.dead_letters.map((one) => one.dead_letter_id)).toEqual([ids[2], ids[1]]);
  expect(first.pagination).toMatchObject({ total: 3, has_more: true });
  const second = await list(`?limit=2&cursor=${String(first.pagination.next_cursor)}`);
  expect(second.dead_letters.map((one) => one.dead_letter_id)).toEqual([ids[0]]);
  expect((await list('?handler=older.handler')).dead_letters).toHaveLength(1);
  expect((await list('?event_type=task.created')).dead_letters).toEqual([]);
  expect((await list('?status=retrying')).dead_letters).toEqual([]);
  const shown = await call('GET', `/${ids[0]}`);
  expect(shown.body.data).toMatchObject({ attempts: 10, event: { event_type: 'command.queued', data: { n: 1 } } });
  expect(shown.body.data.event).toMatchObject({ event_id: shown.body.data.event_id });
  // No such handler in this version.
  expect((await call('POST', `/${ids[0]}/retry`)).status).toBe(409);
  for (const id of ids) {
    expect((await call('DELETE', `/${id}`)).body.data).toEqual({ dead_letter_id: id, status: 'discarded' });
  }
  expect((await call('DELETE', `/dead_${randomUUID()}`)).status).toBe(404);
  expect((await call('GET', `/${ids[0]}`)).status).toBe(404);
  expect((await list()).dead_letters).toEqual([]);
});

it('go to their handler again, one or all of them', { timeout: 60_000 }, async () => {
  // A handler of the real server; what it gets names no command, so that it has nothing to do.
  const one = await dead('webhooks.deliver');
  const answer = await call('POST', `/${one}/retry`);
  expect([answer.status, answer.body.data.status]).toEqual([202, 'retrying']);
  await eventually(async () => (await call('GET', `/${one}`)).status === 404, 30_000);
  await dead('webhooks.deliver');
  await dead('webhooks.deliver');
  const all = await call('POST', '/retry', { handler: 'webhooks.deliver' });
  expect([all.status, all.body.data]).toEqual([202, { handler: 'webhooks.deliver', retrying: 2, remaining: 0 }]);
  await eventually(async () => (await list()).dead_letters.length === 0, 30_000);
});

it('are for administrators alone, and bad requests are told what is wrong', async () => {
  const operator = (await actor(app, { role: 'operator' })).key;
  expect((await call('GET', '', undefined, operator)).status).toBe(403);
  expect((await call('POST', '/retry', { handler: 'webhooks.deliver' }, operator)).status).toBe(403);
  const field = async (body: object): Promise<unknown> => {
    const { status, text } = await call('POST', '/retry', body);
    expect(status).toBe(400);
    return text;
  };
  expect(await field({ handler: 'no.such' })).toContain('webhooks.deliver');
  expect(await field({ handler: 'Bad Name' })).toContain('handler must be the name');
  expect(await field({})).toContain('handler');
  expect((await call('GET', '?cursor=W10')).status).toBe(400);
  expect((await call('GET', '?cursor=WyJhIiwiYiJd')).status).toBe(400);
  expect((await call('GET', '/evt_1')).status).toBe(404);
});
