import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { CheckOwnerRights } from '../../src/platform/ownership/index.js';
import { actor } from '../support/actors.js';
import { bare } from '../support/fake-agent.js';
import { type Command, Harness } from './harness.js';

const TYPES = '/api/v1/commands/types';

let nexus: Harness;

beforeAll(async () => {
  nexus = await Harness.start();
});
afterAll(() => nexus.stop());

const call = (method: string, path: string, body?: object, key = nexus.admin) =>
  nexus.app.call<Record<string, unknown> & { error: { code: string; details: { field: string }[] } }>(method, path, {
    key,
    body,
  });

describe('the catalogue', () => {
  it('comes with the types that the documents name', async () => {
    const { body } = await nexus.app.call<{ types: { type: string; built_in: boolean }[] }>('GET', TYPES, {
      key: nexus.admin,
    });
    expect(body.types.filter((entry) => entry.built_in).map((entry) => entry.type)).toEqual([
      'deploy.app',
      'execute_task',
      'health_check',
      'restart',
      'sync_state',
      'system.info',
      'system.ping',
      'system.processes',
      'system.restart',
      'update_config',
    ]);
  });

  it('is listed in pages, and refuses what is no page', async () => {
    const page = (query: string) =>
      nexus.app.call<{ types: { type: string }[] }>('GET', `${TYPES}?${query}`, { key: nexus.admin });
    const all = (await page('limit=100')).body.types.map((entry) => entry.type);
    const { body } = await page('page=2&per_page=4');
    expect(body.types.map((entry) => entry.type)).toEqual(all.slice(4, 8));
    expect(body).toMatchObject({ pagination: { total: all.length, has_more: true, page: 2 } });
    for (const wrong of ['limit=0', 'limit=101', 'offset=-1', 'page=1&limit=2', 'colour=red']) {
      expect((await page(wrong)).status, wrong).toBe(400);
    }
  });

  it('takes, shows, replaces and deletes a type', async () => {
    const made = await call('POST', TYPES, { type: 'db.vacuum', risk: 'high', default_timeout_seconds: 60 });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ type: 'db.vacuum', executor: 'agent', enabled: true, built_in: false });
    expect((await call('POST', TYPES, { type: 'db.vacuum' })).status).toBe(409);
    const replaced = await call('PUT', `${TYPES}/db.vacuum`, { description: 'Vacuum', idempotent: true });
    expect(replaced.body).toMatchObject({ description: 'Vacuum', idempotent: true, risk: 'medium' });
    expect((await call('GET', `${TYPES}/db.vacuum`)).body).toEqual(replaced.body);
    const gone = await call('DELETE', `${TYPES}/db.vacuum`);
    expect(gone.body).toMatchObject({ type: 'db.vacuum', status: 'deleted' });
    expect((await call('DELETE', `${TYPES}/db.vacuum`)).body).toEqual(gone.body);
    expect((await call('GET', `${TYPES}/db.vacuum`)).status).toBe(404);
    expect((await call('PUT', `${TYPES}/db.vacuum`, {})).status).toBe(404);
    expect((await call('POST', TYPES, { type: 'db.vacuum' })).status).toBe(201);
  });

  it('keeps what comes with the server, but lets it be disabled', async () => {
    expect((await call('DELETE', `${TYPES}/sync_state`)).status).toBe(409);
    expect((await call('DELETE', `${TYPES}/no.such.type`)).status).toBe(404);
    await call('PUT', `${TYPES}/sync_state`, { enabled: false });
    const agent = await nexus.register();
    expect((await nexus.post({ command_type: 'sync_state', target: agent.id })).status).toBe(422);
  });

  it.each([
    ['a pattern', { properties: { a: { pattern: '(a+)+$' } } }],
    ['a reference elsewhere', { $ref: 'https://example.com/schema' }],
    ['a name of its own', { $id: 'https://example.com/schema' }],
    ['what is no schema', { type: 'nothing' }],
    ['endless nesting', JSON.parse(`${'{"not":'.repeat(30)}{}${'}'.repeat(30)}`) as object],
  ])('refuses a schema with %s', async (_what, parameters) => {
    const { status, body } = await call('POST', TYPES, { type: 'bad.schema', parameters });
    expect(status).toBe(400);
    expect(body.error.details[0].field).toBe('parameters');
  });

  it('is changed by administrators alone', async () => {
    const { key } = await actor(nexus.app, { role: 'operator' });
    expect((await call('POST', TYPES, { type: 'a.b' }, key)).status).toBe(403);
    expect((await call('GET', TYPES, undefined, key)).status).toBe(200);
  });
});

describe('a request for a command', () => {
  it('has its parameters checked by the schema of the type, each wrong one named', async () => {
    await call('POST', TYPES, {
      type: 'deploy.web',
      parameters: {
        type: 'object',
        required: ['version'],
        additionalProperties: false,
        properties: { version: { type: 'string' }, hosts: { type: 'array', items: { type: 'integer' } } },
      },
    });
    const agent = await nexus.register();
    const { status, body } = await call('POST', '/api/v1/commands', {
      command_type: 'deploy.web',
      target: agent.name,
      parameters: { hosts: [1, 'x'], extra: true },
    });
    expect(status).toBe(400);
    expect(body.error.details.map((issue) => issue.field).sort()).toEqual([
      'parameters.extra',
      'parameters.hosts.1',
      'parameters.version',
    ]);
    const good = await nexus.post({ command_type: 'deploy.web', target: agent.name, parameters: { version: '1' } });
    expect(good.status).toBe(201);
  });

  it.each([
    ['an unknown target', { target: 'nobody' }, 404],
    ['an unknown agent id', { target: 'agent_00000000-0000-4000-8000-000000000000' }, 404],
    ['a selector that selects nobody', { target: 'label:no=body' }, 404],
    ['a malformed selector', { target: 'label:nothing' }, 400],
    ['an empty target', { target: ' ' }, 400],
    ['a type nobody knows', { command_type: 'make.coffee' }, 422],
    ['a time limit of zero', { timeout_seconds: 0 }, 400],
    ['a time limit over an hour', { timeout_seconds: 3601 }, 400],
    ['an unknown priority', { priority: 'urgent' }, 400],
    ['an unknown field', { shell: 'rm -rf /' }, 400],
    ['parameters that are a list', { parameters: [1] }, 400],
    ['huge parameters', { parameters: { text: 'x'.repeat(70_000) } }, 400],
    ['a callback URL that is not public', { callback_url: 'http://169.254.169.254/latest' }, 400],
    ['a callback URL that is none', { callback_url: 'nonsense' }, 400],
    ['an idempotency key with a line break', { idempotency_key: 'a\nb' }, 400],
    ['a type with a line break', { command_type: 'a\nb' }, 400],
  ])('with %s is refused and stores nothing', async (_what, wrong, expected) => {
    const agent = await nexus.register();
    const { status, body } = await nexus.post({ command_type: 'system.ping', target: agent.id, ...wrong });
    expect(status).toBe(expected);
    expect(body.error.code).toBeTruthy();
    const rows = await nexus.app.db.query(`SELECT 1 FROM commands WHERE agent_id = $1`, [agent.uuid]);
    expect(rows).toEqual([]);
  });

  it('may leave optional fields null', async () => {
    const agent = await nexus.register();
    const nothing = {
      parameters: null,
      priority: null,
      timeout_seconds: null,
      callback_url: null,
      idempotency_key: null,
    };
    const { status, body } = await nexus.post({ command_type: 'system.ping', target: agent.id, ...nothing });
    expect(status).toBe(201);
    const cancelled = await nexus.app.call('DELETE', `/api/v1/commands/${body.command_id}`, {
      key: nexus.admin,
      body: { reason: null },
    });
    expect(cancelled.status).toBe(200);
    expect((await nexus.get(body.command_id)).result?.message).toBe('Cancelled by request');
  });

  it('for a type that the agent does not execute is refused, naming both', async () => {
    const fake = await nexus.agent();
    const { status, body } = await nexus.post({ command_type: 'deploy.app', target: fake.agent.id });
    expect(status).toBe(422);
    expect(body.error.details).toEqual({ command_type: 'deploy.app', targets: [fake.agent.name] });
    await fake.close();
  });

  it('may name a type that only the agent knows', async () => {
    const agent = await nexus.register();
    const fake = await nexus.connect(agent, { commands: [{ type: 'site.special' }] });
    const id = await nexus.send(agent.id, { command_type: 'site.special' });
    fake.execute((await fake.command(id)).command_id);
    await nexus.until(id, 'completed');
  });
});

describe('who may command and see what', () => {
  it('binds developers to targets labelled for development', async () => {
    const { key } = await actor(nexus.app, { role: 'developer' });
    const dev = await nexus.register({ labels: { env: 'development', pool: 'mixed' } });
    const live = await nexus.register({ labels: { env: 'production', pool: 'mixed' } });
    const body = { command_type: 'system.ping' };
    expect((await nexus.post({ ...body, target: dev.name }, key)).status).toBe(201);
    expect((await nexus.post({ ...body, target: live.name }, key)).status).toBe(403);
    expect((await nexus.post({ ...body, target: 'label:pool=mixed' }, key)).status).toBe(403);
    expect((await nexus.post({ ...body, target: 'nexus' }, key)).status).toBe(403);
    const other = await nexus.send(live.name);
    const cancel = await nexus.app.call('DELETE', `/api/v1/commands/${other}`, { key });
    expect(cancel.status).toBe(403);
    const retry = await nexus
      .cancel(other)
      .then(() => nexus.app.call('POST', `/api/v1/commands/${other}/retry`, { key }));
    expect(retry.status).toBe(403);
  });

  it('is cancelled when its sender may not send it any more, or its agent leaves the labels, before the agent has it', async () => {
    const [operator, developer, kept] = [
      await actor(nexus.app, { role: 'operator' }),
      await actor(nexus.app, { role: 'developer' }),
      await actor(nexus.app, { role: 'developer' }),
    ];
    const [dev, moved] = [
      await nexus.register({ labels: { env: 'development' } }),
      await nexus.register({ labels: { env: 'development' } }),
    ];
    const queue = async (target: string, { key }: { key: string }): Promise<string> =>
      (await nexus.post({ command_type: 'system.ping', target }, key)).body.command_id;
    const ids = [
      await queue(dev.name, operator),
      await queue(moved.name, developer),
      await queue(dev.name, developer),
      await queue(dev.name, kept),
    ];
    const revoked = await nexus.app.call('DELETE', `/api/v1/auth/api-keys/key_${operator.keyId}`, { key: nexus.admin });
    expect(revoked.status).toBe(200);
    const labels = { env: 'production' };
    await nexus.app.call('PATCH', `/api/v1/ai/agents/${moved.id}`, { key: nexus.admin, body: { labels } });
    await nexus.app.get(JobQueue).enqueue(CheckOwnerRights, {});
    await nexus.until(ids[0], 'cancelled');
    expect((await nexus.until(ids[1], 'cancelled')).result?.error).toMatchObject({ code: 'CANCELLED' });
    expect([(await nexus.get(ids[2])).status, (await nexus.get(ids[3])).status]).toEqual(['queued', 'queued']);
  });

  it('lets operators command, viewers only look, strangers nothing', async () => {
    const agent = await nexus.register();
    const [operator, viewer] = [
      await actor(nexus.app, { role: 'operator' }),
      await actor(nexus.app, { role: 'viewer' }),
    ];
    const body = { command_type: 'system.ping', target: agent.id };
    const made = await nexus.post(body, operator.key);
    expect(made.status).toBe(201);
    expect((await nexus.post(body, viewer.key)).status).toBe(403);
    const path = `/api/v1/commands/${made.body.command_id}`;
    expect((await nexus.app.call('GET', path, { key: viewer.key })).status).toBe(200);
    expect((await nexus.app.call('DELETE', path, { key: viewer.key })).status).toBe(403);
    expect((await nexus.app.call('GET', path)).status).toBe(401);
  });

  it('shows an agent its own commands and no others', async () => {
    const [mine, other] = [await nexus.register(), await nexus.register()];
    const [own, foreign] = [await nexus.send(mine.id), await nexus.send(other.id)];
    const get = (path: string) => nexus.app.call<{ commands: Command[] }>('GET', path, { key: mine.key });
    expect((await get(`/api/v1/commands/${own}`)).status).toBe(200);
    expect((await get(`/api/v1/commands/${foreign}`)).status).toBe(404);
    expect((await get(`/api/v1/commands/${foreign}/logs`)).status).toBe(404);
    const listed = async (query: string): Promise<string[]> =>
      (await get(`/api/v1/commands${query}`)).body.commands.map((command) => command.command_id);
    expect(await listed('')).toEqual([own]);
    expect(await listed(`?target=${mine.id}`)).toEqual([own]);
    for (const target of [other.id, other.name]) expect(await listed(`?target=${target}`)).toEqual([]);
    expect((await nexus.post({ command_type: 'system.ping', target: mine.id }, mine.key)).status).toBe(403);
  });
});

describe('the list', () => {
  it('filters, pages by cursor and refuses nonsense', async () => {
    const agent = await nexus.register();
    const ids: string[] = [];
    for (const priority of ['low', 'high', 'high', 'normal', 'high']) {
      ids.unshift(await nexus.send(agent.name, { priority }));
    }
    await nexus.cancel(ids[0]);
    interface List {
      commands: Command[];
      pagination: { total: number; has_more: boolean; next_cursor: string | null };
    }
    const list = (query: string) => nexus.app.call<List>('GET', `/api/v1/commands?${query}`, { key: nexus.admin });
    const idsOf = ({ body }: { body: List }) => body.commands.map((command) => command.command_id);
    for (const target of [agent.name, agent.id]) expect(idsOf(await list(`target=${target}`))).toEqual(ids);
    expect(idsOf(await list(`target=${agent.id}&status=cancelled`))).toEqual([ids[0]]);
    expect(idsOf(await list(`target=${agent.id}&status=queued&priority=high`))).toEqual([ids[2], ids[3]]);
    expect(idsOf(await list(`target=${agent.id}&type=system.info`))).toEqual([]);
    const first = await list(`target=${agent.id}&limit=2`);
    expect(first.body.pagination).toMatchObject({ total: 5, has_more: true });
    const second = await list(`target=${agent.id}&limit=2&cursor=${first.body.pagination.next_cursor}`);
    expect([...idsOf(first), ...idsOf(second)]).toEqual(ids.slice(0, 4));
    expect(idsOf(await list(`target=${agent.id}&page=3&per_page=2`))).toEqual([ids[4]]);
    const at = new Date(Date.now() + 60_000).toISOString();
    expect(idsOf(await list(`target=${agent.id}&from=${at}`))).toEqual([]);
    for (const wrong of [
      'limit=101',
      'limit=-1',
      'status=odd',
      `from=${at}&to=2020-01-01T00:00:00Z`,
      'cursor=xx',
      'page=1&offset=1',
      'parent=cmd_1',
      'colour=red',
    ]) {
      expect((await list(wrong)).status, wrong).toBe(400);
    }
    expect(bare(ids[0])).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('counts up to ten thousand', async () => {
    await nexus.app.db.query(
      `INSERT INTO commands (id, command_type, target, executor, parameters, priority, timeout_seconds, status, created_by,
         created_at, completed_at, timeline)
       SELECT gen_random_uuid(), 'system.ping', 'counted', 'builtin', '{}', 3, 300, 'completed', 'user_x', now(), now(), '[]'
       FROM generate_series(1, 10001)`,
    );
    const { body } = await nexus.app.call<{ pagination: object }>('GET', '/api/v1/commands?target=counted&limit=1', {
      key: nexus.admin,
    });
    expect(body.pagination).toMatchObject({ total: 10_000, total_is_exact: false, has_more: true });
  });
});
