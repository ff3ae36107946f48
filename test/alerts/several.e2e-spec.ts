import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { AlertBench, PATIENT_MS, RAISED, RESOLVED } from './harness.js';

vi.setConfig({ testTimeout: 10 * PATIENT_MS });

/** Sources of one batch in the test of kills, and kills; NEXUS_TEST_KILLS=20 runs the long version. */
const SOURCES = 200;
const KILLS = Number(process.env.NEXUS_TEST_KILLS ?? 2);

const home = temporaryHome();
let database: TestDatabase;
let env: Record<string, string>;
let bench: AlertBench;

beforeAll(async () => {
  database = await createTestDatabase();
  env = { DATABASE_URL: database.url, NEXUS_MASTER_KEYS: `test:${randomBytes(32).toString('base64')}` };
  bench = await AlertBench.start(env);
}, 120_000);
afterAll(async () => {
  await bench?.stop();
  await database?.drop();
  home.remove();
});

function metrics(sources: readonly string[], value: number): object {
  const timestamp = new Date().toISOString();
  return {
    events: sources.map((source) => ({
      event_type: 'system.metric',
      source,
      timestamp,
      data: { metric_name: 'cpu_usage', value },
    })),
  };
}

function post(url: string, body: object): Promise<Response> {
  return fetch(`${url}/api/v1/telemetry/batch`, {
    method: 'POST',
    headers: { authorization: `Bearer ${bench.key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

async function toldOf(prefix: string): Promise<Record<string, number>> {
  const rows = await bench.app.db.query<{ type: string; n: number }>(
    `SELECT type, count(*)::int AS n FROM events WHERE data->>'source' LIKE $1 GROUP BY type`,
    [`${prefix}%`],
  );
  return Object.fromEntries(rows.map(({ type, n }) => [type, n]));
}

describe('several processes', () => {
  let other: TestApp;

  beforeAll(async () => {
    other = await startTestApp(env);
  });
  afterAll(() => other.stop());

  it('raise one alert together, and any of them clears it', async () => {
    const sources = Array.from({ length: 20 }, (_, n) => `shared-${n}`);
    await bench.rule('shared-*');
    // The other process has to know the rule.
    await eventually(async () => {
      await post(other.url, metrics(['shared-known'], 99));
      return (await bench.alerts('shared-known')).length > 0;
    }, PATIENT_MS);
    const both = [bench.app.url, other.url];
    for (let round = 0; round < 3; round++) {
      await Promise.all([...both, ...both].map((url) => post(url, metrics(sources, 95 + round))));
    }
    await eventually(async () => (await toldOf('shared-'))[RAISED] === sources.length + 1, PATIENT_MS);
    // Half here, half there, at once after the newest breach: what one does not know yet it learns in time.
    await Promise.all([
      post(bench.app.url, metrics(sources.slice(0, 10), 10)),
      post(other.url, metrics(sources.slice(10), 10)),
    ]);
    await eventually(async () => (await toldOf('shared-'))[RESOLVED] === sources.length, PATIENT_MS);
    expect(await toldOf('shared-')).toEqual({ [RAISED]: sources.length + 1, [RESOLVED]: sources.length });
  });

  it('find what one of them did not know of another’s change', async () => {
    const source = bench.source();
    await bench.rule(source);
    const ts = new Date().toISOString();
    const event = (value: number, timestamp: string) => ({
      events: [{ event_type: 'system.metric', source, timestamp, data: { metric_name: 'cpu_usage', value } }],
    });
    // Newer and normal here, older and too high there, at the same moment.
    await Promise.all([
      post(bench.app.url, event(10, new Date(Date.parse(ts) + 50).toISOString())),
      post(other.url, event(95, ts)),
    ]);
    await post(bench.app.url, event(96, new Date(Date.parse(ts) + 100).toISOString()));
    await post(other.url, event(5, new Date(Date.parse(ts) + 150).toISOString()));
    await eventually(async () => {
      const rows = await bench.app.db.query<{ phase: string }>(
        `SELECT phase FROM alert_states WHERE group_key = $1 AND recheck_at IS NULL`,
        [source],
      );
      return rows[0]?.phase === 'ok';
    }, PATIENT_MS);
    expect((await bench.alerts(source, '&status=active')).length).toBe(0);
    const told = await bench.told(source);
    expect(told.filter((type) => type === RAISED)).toHaveLength(told.filter((type) => type === RESOLVED).length);
  });
});

it('a restart forgets neither open alerts nor what was pending', async () => {
  const [open, pending, timed] = [bench.source(), bench.source(), bench.source()];
  await bench.rule(open);
  await bench.rule(pending, { times: 3 });
  await bench.rule(timed, { for_seconds: 2 });
  await bench.send(open, 95);
  await bench.until(open, { status: 'active' });
  for (const value of [95, 96]) await bench.send(pending, value);
  await bench.send(timed, 95);
  await eventually(async () => {
    const rows = await bench.app.db.query<{ matches: number }>(
      `SELECT matches FROM alert_states WHERE group_key = ANY ($1)`,
      [[pending, timed]],
    );
    return rows.length === 2 && rows.some(({ matches }) => matches === 2);
  }, PATIENT_MS);
  await bench.app.stop();
  bench = await AlertBench.start(env);
  await bench.until(timed, { status: 'active' });
  await bench.send(pending, 97);
  await bench.until(pending, { status: 'active', value: 97 });
  await bench.send(open, 10);
  await bench.until(open, { status: 'cleared' });
  expect(await bench.told(open)).toEqual([RAISED, RESOLVED]);
  expect(await bench.told(pending)).toEqual([RAISED]);
});

it('what a dead process left of one and the same time counts in the order it was received', async () => {
  const [later, earlier, dead] = ['one-time-later', 'one-time-earlier', randomUUID()];
  await bench.rule('one-time-*');
  for (const source of [later, earlier]) {
    await bench.send(source, 95);
    await bench.until(source, { status: 'active' });
  }
  // Nothing but the death of the process makes the group look at its events again.
  await eventually(async () => {
    const rows = await bench.app.db.query(
      `SELECT 1 FROM alert_states WHERE group_key LIKE 'one-time-%' AND recheck_at IS NULL`,
    );
    return rows.length === 2;
  }, PATIENT_MS);
  for (const [source, seconds] of [
    [later, 1],
    [earlier, -1],
  ] as const) {
    await bench.app.db.query(
      `INSERT INTO telemetry_events (event_id, ts, received_at, series_id, value, event_type, source, data)
         SELECT gen_random_uuid(), ts, received_at + make_interval(secs => $2), series_id, 10, event_type, source,
                data || '{"value": 10}' FROM telemetry_events WHERE source = $1`,
      [source, seconds],
    );
  }
  await bench.app.db.query(
    `INSERT INTO alert_evaluators (id, beat_at, done_before)
       VALUES ($1, now(), now() - interval '5 minutes')`,
    [dead],
  );
  await bench.until(later, { status: 'cleared', last_value: 10 });
  await eventually(async () => {
    const rows = await bench.app.db.query(`SELECT 1 FROM alert_evaluators WHERE id = $1`, [dead]);
    return rows.length === 0;
  }, PATIENT_MS);
  await bench.until(earlier, { status: 'active', last_value: 95 });
});

it(
  `kill -9 straight after the reply, ${KILLS} times: what was accepted raises and clears its alerts, each once`,
  async () => {
    await bench.rule('killed-*');
    const sources = Array.from({ length: SOURCES }, (_, n) => `killed-${n}`);
    for (let kill = 1; kill <= KILLS; kill++) {
      for (const [value, type] of [
        [95, RAISED],
        [10, RESOLVED],
      ] as const) {
        const process = await NexusProcess.start({
          home: home.path,
          port: await freePort(),
          env: { ...env, NEXUS_ROLE: 'api', NEXUS_LOCAL_AGENT: 'false' },
        });
        // The process that will die has said that it is there, and that it knows the rule.
        const self = `known-${kill}-${value}`;
        await bench.rule(self);
        await eventually(async () => {
          await post(process.url, metrics([self], 99));
          return (await bench.alerts(self)).length > 0;
        }, PATIENT_MS);
        const reply = await post(process.url, metrics(sources, value));
        expect(reply.status).toBe(202);
        await process.kill();
        await eventually(async () => (await toldOf('killed-'))[type] === kill * SOURCES, 2 * PATIENT_MS);
      }
    }
    expect(await toldOf('killed-')).toEqual({ [RAISED]: KILLS * SOURCES, [RESOLVED]: KILLS * SOURCES });
  },
  KILLS * 4 * PATIENT_MS,
);

it('kill -9 while expensive rules are being evaluated: each event raises its alert once', async () => {
  const [type, prefix, count] = ['text.reading', 'halfway-', 500];
  const calls = '.lowerAscii().upperAscii()'.repeat(4);
  for (let n = 0; n < 20; n++) {
    const condition = `data.text${calls} ${n === 19 ? '!=' : '=='} "q"`;
    const rule = { name: `expensive ${n}`, event_type: type, sources: [`${prefix}*`], condition };
    expect((await bench.call('POST', '/rules', rule)).status).toBe(201);
  }
  const process = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { ...env, NEXUS_ROLE: 'api', NEXUS_LOCAL_AGENT: 'false' },
  });
  const data = { text: 'aB'.repeat(2000) };
  const sent = (sources: string[]): object => ({
    events: sources.map((source) => ({ event_type: type, source, data })),
  });
  // The process that will die has said that it is there, and that it knows the rules.
  await eventually(async () => {
    await post(process.url, sent([`${prefix}first`]));
    return (await toldOf(`${prefix}first`))[RAISED] === 1;
  }, PATIENT_MS);
  const sources = Array.from({ length: count }, (_, n) => `${prefix}${n}`);
  expect((await post(process.url, sent(sources))).status).toBe(202);
  await eventually(async () => ((await toldOf(prefix))[RAISED] ?? 0) > 1, PATIENT_MS);
  await process.kill();
  await eventually(async () => {
    const dead = await bench.app.db.query(
      `SELECT 1 FROM alert_evaluators WHERE beat_at < now() - interval '3 seconds'`,
    );
    return dead.length === 0 && (await toldOf(prefix))[RAISED] === count + 1;
  }, 2 * PATIENT_MS);
  expect(await toldOf(prefix)).toEqual({ [RAISED]: count + 1 });
});
