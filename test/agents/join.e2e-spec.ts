import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Agent } from '@nexus/agent';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { CheckOwnerRights } from '../../src/platform/ownership/index.js';
import { actor } from '../support/actors.js';
import { type Answer, startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';
import { LinkClient } from './link-client.js';

let app: TestApp;
let admin: string;

beforeAll(async () => {
  app = await startTestApp();
  admin = (await actor(app)).key;
});
afterAll(() => app.stop());

async function token(body: object = {}): Promise<Record<string, string>> {
  const answer = await app.call<Record<string, string>>('POST', '/api/v1/ai/agents/join-tokens', { key: admin, body });
  expect(answer.status).toBe(201);
  return answer.body;
}

function join(joinToken: string, fields: object = {}): Promise<Answer<Record<string, string>>> {
  return app.call('POST', '/api/v1/ai/agents/join', {
    body: {
      token: joinToken,
      agent_name: randomUUID(),
      agent_type: 'host',
      capabilities: ['metrics'],
      version: '1.0.0',
      labels: { env: 'development', rack: '7' },
      ...fields,
    },
  });
}

/** Forwards to a port, except that the first answers are lost on the way. */
async function lossyProxy(target: number, losses: number): Promise<{ port: number; close(): void }> {
  const server = net.createServer((socket) => {
    const other = net.connect(target, '127.0.0.1');
    for (const [from, to] of [
      [socket, other],
      [other, socket],
    ]) {
      from.on('error', () => undefined).on('close', () => to.destroy());
    }
    socket.pipe(other);
    if (losses-- > 0) other.once('data', () => socket.destroy());
    else other.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

describe('unused join tokens', () => {
  it('are a thousand at most', async () => {
    const { join_token_id } = await token();
    await app.db.query(
      `INSERT INTO agent_join_tokens (id, hash, preview, labels, created_by, expires_at)
       SELECT gen_random_uuid(), decode(md5(i::text), 'hex'), 'filler', '{}', 'user_x', now() + interval '1 hour'
       FROM generate_series(1, 999) AS i`,
    );
    const more = () => app.call('POST', '/api/v1/ai/agents/join-tokens', { key: admin, body: {} });
    try {
      expect(await more()).toMatchObject({ status: 409, body: { error: { details: { limit: 1000 } } } });
      await app.call('DELETE', `/api/v1/ai/agents/join-tokens/${join_token_id}`, { key: admin });
      expect((await more()).status).toBe(201);
    } finally {
      await app.db.query(`DELETE FROM agent_join_tokens WHERE preview = 'filler'`);
    }
  });
});

describe('joining', () => {
  it('makes an agent with a key and the labels of the token', async () => {
    const made = await token({ labels: { env: 'production' } });
    const { status, body } = await join(made.token);
    expect(status).toBe(201);
    expect(Object.keys(body).sort()).toEqual(['agent_id', 'agent_name', 'api_key', 'link_path', 'signing_key']);
    const shown = await app.call('GET', `/api/v1/ai/agents/${body.agent_id}`, { key: body.api_key });
    expect(shown.body).toMatchObject({ status: 'offline', labels: { env: 'production', rack: '7' } });
  });

  it('is possible once with a token, however many try at once', async () => {
    const made = await token();
    const answers = await Promise.all(Array.from({ length: 10 }, () => join(made.token)));
    expect(answers.map((a) => a.status).sort()).toEqual([201, ...Array<number>(9).fill(401)]);
  });

  it('is refused with a token whose maker may not make one any more', async () => {
    const [dead, alive] = [await actor(app), await actor(app)];
    const made = async (key: string): Promise<Record<string, string>> =>
      (await app.call<Record<string, string>>('POST', '/api/v1/ai/agents/join-tokens', { key, body: {} })).body;
    const [lost, kept, spent] = [await made(dead.key), await made(alive.key), await made(dead.key)];
    const repeatable = { nonce: 'n'.repeat(43) };
    expect((await join(spent.token, repeatable)).status).toBe(201);
    await app.call('DELETE', `/api/v1/auth/api-keys/key_${dead.keyId}`, { key: admin });
    const statusOf = async ({ join_token_id }: Record<string, string>): Promise<string | undefined> => {
      const target = '/api/v1/ai/agents/join-tokens?limit=100';
      const { body } = await app.call<{ join_tokens: Record<string, string>[] }>('GET', target, { key: admin });
      return body.join_tokens.find((one) => one.join_token_id === join_token_id)?.status;
    };
    await eventually(async () => (await statusOf(lost)) === 'revoked');
    expect((await join(lost.token)).status).toBe(401);
    await eventually(async () => (await join(spent.token, repeatable)).status === 401);
    expect([await statusOf(kept), await statusOf(spent)]).toEqual(['open', 'used']);
    // Whoever may change only some agents from now on has no token for others.
    await app.db.query(`UPDATE credentials SET scopes = '{agent:admin@env=development}' WHERE id = $1`, [alive.keyId]);
    await app.get(JobQueue).enqueue(CheckOwnerRights, {});
    await eventually(async () => (await statusOf(kept)) === 'revoked');
  });

  it('is refused alike with a used, an expired, a revoked and an unknown token', async () => {
    const [used, expired, revoked] = [await token(), await token(), await token()];
    await join(used.token);
    await app.db.query(`UPDATE agent_join_tokens SET expires_at = now() WHERE id = $1`, [
      expired.join_token_id.slice('join_'.length),
    ]);
    await app.call('DELETE', `/api/v1/ai/agents/join-tokens/${revoked.join_token_id}`, { key: admin });
    for (const text of [used.token, expired.token, revoked.token, 'nexus_join_unknown']) {
      const { status, body } = await join(text);
      expect(status).toBe(401);
      expect(body).toMatchObject({ error: { message: 'The join token is not valid (any more)' } });
    }
  });

  it('under a taken name is refused and leaves the token good', async () => {
    const name = randomUUID();
    const [first, second] = [await token(), await token()];
    expect((await join(first.token, { agent_name: name })).status).toBe(201);
    const refused = await join(second.token, { agent_name: name });
    expect(refused.status).toBe(409);
    expect(refused.text).toContain('deregister it first');
    expect((await join(second.token)).status).toBe(201);
  });

  describe('again, as its answer was lost,', () => {
    const nonce = 'n'.repeat(43);
    const joinsAudited = async (agentId: string): Promise<number> => {
      const path = `/api/v1/security/audit?resource_id=${agentId}`;
      const { body } = await app.call<{ entries: { action: string; status_code: number }[] }>('GET', path, {
        key: admin,
      });
      return body.entries.filter((e) => e.action === 'POST /api/v1/ai/agents/join' && e.status_code === 201).length;
    };
    const statusWith = async ({ agent_id, api_key: key }: Record<string, string>): Promise<number> =>
      (await app.call('GET', `/api/v1/ai/agents/${agent_id}`, { key })).status;

    it('gives the same agent new keys, and the old ones end', async () => {
      const made = await token({ labels: { env: 'production' } });
      const first = await join(made.token, { nonce });
      const again = await join(made.token, { nonce });
      expect(again.status).toBe(201);
      expect(again.body.agent_id).toBe(first.body.agent_id);
      expect(again.body.agent_name).toBe(first.body.agent_name);
      expect(again.body.signing_key).not.toBe(first.body.signing_key);
      expect([await statusWith(first.body), await statusWith(again.body)]).toEqual([401, 200]);
      expect(await joinsAudited(first.body.agent_id)).toBe(2);
    });

    it('leaves one key that works, however many tries come at once', async () => {
      const made = await token();
      const answers = await Promise.all(Array.from({ length: 5 }, () => join(made.token, { nonce })));
      expect(new Set(answers.map(({ status, body }) => `${status} ${body.agent_id}`)).size).toBe(1);
      const statuses = await Promise.all(answers.map(({ body }) => statusWith(body)));
      expect(statuses.sort()).toEqual([200, 401, 401, 401, 401]);
    });

    it('is refused with another nonce, without one, and where the first try had none', async () => {
      const [made, plain] = [await token(), await token()];
      await join(made.token, { nonce });
      await join(plain.token);
      for (const [text, fields] of [
        [made.token, { nonce: 'x'.repeat(43) }],
        [made.token, {}],
        [plain.token, { nonce }],
      ] as const) {
        expect((await join(text, fields)).status).toBe(401);
      }
    });

    it.each<[string, (made: Record<string, string>, joined: Record<string, string>) => Promise<unknown>]>([
      ['the agent has connected', async (_made, { api_key }) => (await LinkClient.welcomed(app.url, api_key)).close()],
      [
        'the agent has sent a heartbeat',
        (_made, { agent_id, api_key: key }) =>
          app.call('POST', `/api/v1/ai/agents/${agent_id}/heartbeat`, { key, body: {} }),
      ],
      [
        'the token has expired',
        (made) =>
          app.db.query(`UPDATE agent_join_tokens SET expires_at = now() WHERE id = $1`, [
            made.join_token_id.slice('join_'.length),
          ]),
      ],
      [
        'an operator has revoked the used token',
        (made) => app.call('DELETE', `/api/v1/ai/agents/join-tokens/${made.join_token_id}`, { key: admin }),
      ],
      [
        'an operator has given the agent other keys',
        (_made, { agent_id }) => app.call('POST', `/api/v1/ai/agents/${agent_id}/rotate-key`, { key: admin }),
      ],
      [
        'the agent was deregistered',
        (_made, { agent_id }) => app.call('DELETE', `/api/v1/ai/agents/${agent_id}`, { key: admin }),
      ],
    ])('is refused once %s', async (_when, change) => {
      const made = await token();
      const { body } = await join(made.token, { nonce });
      await change(made, body);
      expect((await join(made.token, { nonce })).status).toBe(401);
    });

    it('is what an agent does by itself', async () => {
      const made = await token();
      const proxy = await lossyProxy(Number(new URL(app.url).port), 2);
      const agent = new Agent({
        url: `http://127.0.0.1:${proxy.port}`,
        ephemeral: true,
        join: made.token,
        name: randomUUID(),
        intervalMs: 0,
      });
      const welcome = once(agent, 'connected');
      try {
        await agent.start();
        await welcome;
      } finally {
        await agent.stop();
        proxy.close();
      }
      expect(await joinsAudited(agent.id)).toBe(3);
    });
  });

  it.each([
    ['a nonce that can be guessed', { nonce: 'short' }],
    ['no token', { token: undefined }],
    ['an unknown field', { admin: true }],
    ['a name that is none', { agent_name: '' }],
  ])('is refused with %s', async (_what, fields) => {
    const made = await token();
    expect((await join(made.token, fields)).status).toBe(400);
  });
});

describe('join tokens', () => {
  it('are listed without their secrets', async () => {
    const [open, used] = [await token(), await token()];
    const { body: agent } = await join(used.token);
    const { body, text } = await app.call<{ join_tokens: Record<string, unknown>[] }>(
      'GET',
      '/api/v1/ai/agents/join-tokens',
      { key: admin },
    );
    const find = (id: string) => body.join_tokens.find((t) => t.join_token_id === id);
    expect(find(open.join_token_id)).toMatchObject({ status: 'open', used_by: null });
    expect(find(used.join_token_id)).toMatchObject({ status: 'used', used_by: agent.agent_id });
    expect(text).not.toContain(open.token);
  });

  it('may be revoked twice, with the same answer', async () => {
    const { join_token_id: id } = await token();
    const revoke = () => app.call('DELETE', `/api/v1/ai/agents/join-tokens/${id}`, { key: admin });
    const first = await revoke();
    expect(first).toMatchObject({ status: 200, body: { status: 'revoked' } });
    expect((await revoke()).body).toEqual(first.body);
    const unknown = await app.call('DELETE', `/api/v1/ai/agents/join-tokens/join_${randomUUID()}`, { key: admin });
    expect(unknown.status).toBe(404);
  });

  it('live an hour at most', async () => {
    const made = await token();
    expect(Date.parse(made.expires_at) - Date.now()).toBeLessThanOrEqual(3600_000);
    const longer = await app.call('POST', '/api/v1/ai/agents/join-tokens', {
      key: admin,
      body: { expires_in_seconds: 3601 },
    });
    expect(longer.status).toBe(400);
  });

  it('are for whoever administers agents, and for nobody else', async () => {
    const made = await token();
    for (const options of [{ role: 'viewer' }, { scopes: ['ai:*'] }]) {
      const { key } = await actor(app, options);
      const call = async (method: string, id = '', body?: object): Promise<number> =>
        (await app.call(method, `/api/v1/ai/agents/join-tokens${id}`, { key, body })).status;
      expect(await call('POST', '', {})).toBe(403);
      expect(await call('GET')).toBe(403);
      expect(await call('DELETE', `/${made.join_token_id}`)).toBe(403);
    }
    expect((await app.call('POST', '/api/v1/ai/agents/join-tokens', { body: {} })).status).toBe(401);
  });

  it('of whoever is limited by labels make agents with these labels, and are all they see', async () => {
    const { key } = await actor(app, { role: 'developer' });
    const path = '/api/v1/ai/agents/join-tokens';
    const foreign = await token({ labels: { env: 'production' } });
    const refused = await app.call('POST', path, { key, body: { labels: { env: 'production' } } });
    expect(refused.status).toBe(403);
    const own = await app.call<Record<string, string>>('POST', path, { key, body: { labels: { rack: '1' } } });
    expect(own.status).toBe(201);
    const list = await app.call<{ join_tokens: { join_token_id: string }[]; pagination: { total: number } }>(
      'GET',
      path,
      {
        key,
      },
    );
    expect(list.body.join_tokens.map((one) => one.join_token_id)).toEqual([own.body.join_token_id]);
    expect(list.body.pagination.total).toBe(1);
    expect((await app.call('DELETE', `${path}/${foreign.join_token_id}`, { key })).status).toBe(403);
    expect((await join(foreign.token)).status).toBe(201);
    const { body } = await join(own.body.token, { labels: { env: 'production' } });
    const shown = await app.call('GET', `/api/v1/ai/agents/${body.agent_id}`, { key: admin });
    expect(shown.body).toMatchObject({ labels: { env: 'development', rack: '1' } });
  });
});

describe('the agent that the server serves', () => {
  let folder: string;
  let registry: ReturnType<typeof createServer>;
  /** What npm asked the registry for. */
  const asked: string[] = [];
  const started: ChildProcess[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'nexus-join-'));
    registry = createServer((request, response) => {
      asked.push(request.url ?? '');
      response.writeHead(404).end();
    }).listen(0, '127.0.0.1');
    await once(registry, 'listening');
  });
  afterAll(async () => {
    for (const child of started) endGroup(child);
    registry.close();
    await eventually(() => {
      rmSync(folder, { recursive: true, force: true });
      return true;
    });
  });

  /** A shell in a folder with nothing in it, on a machine with an account of its own. */
  function type(line: string, name: string, env: Record<string, string> = {}): ChildProcess {
    const home = mkdtempSync(path.join(folder, name));
    const { port } = registry.address() as AddressInfo;
    const child = spawn('/bin/bash', ['-c', line], {
      cwd: home,
      detached: true,
      stdio: 'ignore',
      env: {
        PATH: process.env.PATH,
        HOME: home,
        NEXUS_AGENT_NAME: name,
        npm_config_registry: `http://127.0.0.1:${port}`,
        // Both ask for news of packages and versions, not for packages.
        npm_config_audit: 'false',
        npm_config_update_notifier: 'false',
        ...env,
      },
    });
    started.push(child);
    return child;
  }

  function endGroup(child: ChildProcess): void {
    try {
      process.kill(-(child.pid as number), 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }

  const connected = async (name: string): Promise<boolean> => {
    const { body } = await app.call<{ agents: { agent_name: string; connected: boolean }[] }>(
      'GET',
      '/api/v1/ai/agents',
      { key: admin },
    );
    return body.agents.some((agent) => agent.agent_name === name && agent.connected);
  };

  /** Processes whose command line names the folder. */
  const running = (): number[] =>
    readdirSync('/proc')
      .map(Number)
      .filter((pid) => {
        try {
          return pid > 0 && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder);
        } catch {
          return false;
        }
      });

  it('is what the hash in the answer to a join token says', async () => {
    const made = await token();
    expect(made.agent_url).toBe(`${app.url}/agent/nexus-agent.tgz`);
    const answer = await fetch(made.agent_url);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/gzip']);
    const bytes = Buffer.from(await answer.arrayBuffer());
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(made.agent_sha256);
  });

  it('joins by the line in that answer, typed in an empty folder', async () => {
    const { join_command } = await token();
    // Copied from the JSON of an answer as it is.
    expect(JSON.stringify(join_command)).toBe(`"${join_command}"`);
    type(join_command, 'by-line');
    await eventually(() => connected('by-line'), 30_000);
  });

  it('needs no other programs than curl, tar and Node.js', async () => {
    const bin = path.join(folder, 'bin');
    mkdirSync(bin);
    for (const name of ['curl', 'tar', 'gzip', 'mkdir']) {
      symlinkSync(
        execFileSync('/bin/sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim(),
        path.join(bin, name),
      );
    }
    symlinkSync(process.execPath, path.join(bin, 'node'));
    const { join_command } = await token();
    type(join_command, 'by-few-programs', { PATH: bin });
    await eventually(() => connected('by-few-programs'), 30_000);
  });

  it('is not started when it is not what the hash says', async () => {
    const { join_command, agent_sha256 } = await token();
    const child = type(join_command.replace(agent_sha256, '0'.repeat(64)), 'by-wrong-hash');
    const [code] = (await once(child, 'exit')) as [number];
    expect(code).not.toBe(0);
    expect(await connected('by-wrong-hash')).toBe(false);
  });

  it('runs by npx without asking a registry, and ends with it', async () => {
    const made = await token();
    const npx = type(
      `curl -fsSO ${made.agent_url} && exec npx --yes ./nexus-agent.tgz --home ${folder}/npx-home --url ${app.url} --join ${made.token}`,
      'by-npx',
    );
    await eventually(() => connected('by-npx'), 60_000);
    expect(asked).toEqual([]);
    const before = running();
    expect(before.length).toBeGreaterThan(1);
    npx.kill('SIGKILL');
    await eventually(() => running().every((pid) => !before.includes(pid)), 20_000);
    await eventually(async () => !(await connected('by-npx')));
  });

  it('asks for the proxy in front of the server, and for http:// only where it must', async () => {
    const proxied = await startTestApp({ DATABASE_URL: app.db.url, NEXUS_TRUSTED_PROXIES: '127.0.0.1' });
    const commandFor = async (headers: Record<string, string>, on = proxied): Promise<string> => {
      const answer = await on.call<Record<string, string>>('POST', '/api/v1/ai/agents/join-tokens', {
        key: admin,
        body: {},
        headers,
      });
      return answer.body.join_command;
    };
    try {
      const behind = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'nexus.example' };
      expect(await commandFor(behind)).toContain(
        'node nexus-agent/bin/nexus-agent.js --url https://nexus.example/api/v1 --join',
      );
      expect(await commandFor({ 'x-forwarded-host': 'nexus.example' })).toContain(
        '--url http://nexus.example/api/v1 --insecure-http --join',
      );
      expect(await commandFor(behind, app)).toContain(`--url ${app.url}/api/v1 --join`);
    } finally {
      await proxied.stop();
    }
  });
});
