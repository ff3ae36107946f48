import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Actor, type RequestContext, runInContext, systemActor } from '../../src/platform/context/index.js';
import { type FinishedRequest, RequestObservers } from '../../src/platform/http/index.js';
import { LoadedSettings } from '../../src/platform/config/index.js';
import { SecuritySettings } from '../../src/security/security.settings.js';
import { readSettings } from '../../src/settings.js';
import { DatabaseClock, RangePartitions } from '../../src/platform/database/index.js';
import { Features } from '../../src/platform/features/index.js';
import { HealthRegistry, Metrics } from '../../src/platform/observability/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { AuditMinute } from '../../src/security/audit-minute.entity.js';
import { AuditPartitions } from '../../src/security/audit-partitions.js';
import { AuditTrail } from '../../src/security/audit-trail.js';
import { type OpenDatabase, openDatabase, silent } from '../platform/harness.js';
import { eventually } from '../support/eventually.js';

let opened: OpenDatabase;

interface Process {
  trail: AuditTrail;
  observers: RequestObservers;
  metrics: Metrics;
}

function startTrail(db = opened.db): Process {
  const observers = new RequestObservers();
  const metrics = new Metrics();
  const trail = new AuditTrail(db, observers, silent, metrics);
  trail.onModuleInit();
  return { trail, observers, metrics };
}

function partitionsOf(settings: LoadedSettings): { months: AuditPartitions; retention: Retention } {
  const clock = new DatabaseClock(opened.db, new HealthRegistry());
  const retention = new Retention(opened.db, clock, settings, silent, new Metrics(), new Features([]));
  return {
    months: new AuditPartitions(opened.db, clock, settings.get(SecuritySettings), retention, silent),
    retention,
  };
}

const caller: Actor = { ...systemActor, id: 'user_1', credentialId: 'key_1' };

function request(n: number, more: Partial<RequestContext> = {}): FinishedRequest {
  const context = {
    actor: caller,
    requestId: `req_${n}`,
    startedAt: 0,
    method: 'GET',
    path: `/api/v1/things/${n}`,
    ...more,
  };
  return { context, status: 200, durationMs: 1, audit: 'request' as FinishedRequest['audit'] };
}

const ids = async (): Promise<string[]> =>
  (await opened.beside.query<{ request_id: string }>('SELECT request_id FROM audit_entries ORDER BY id')).rows.map(
    (row) => row.request_id,
  );
const dropped = async ({ metrics }: Process): Promise<number> =>
  Number(/nexus_audit_entries_dropped_total (\d+)/.exec((await metrics.render(false)).text)?.[1]);
const away = (): Promise<unknown> => opened.beside.query('ALTER TABLE audit_entries RENAME TO elsewhere');
const back = (): Promise<unknown> => opened.beside.query('ALTER TABLE elsewhere RENAME TO audit_entries');

beforeEach(async () => {
  opened = await openDatabase(4, [AuditMinute]);
});
afterEach(() => opened.close());

describe('Entries of reads and refusals', () => {
  it('wait for the database in their order, each once', async () => {
    const process = startTrail();
    await away();
    for (let n = 0; n < 2500; n++) process.observers.finished(request(n));
    await process.trail.flush();
    for (let n = 2500; n < 3000; n++) process.observers.finished(request(n));
    await back();
    await process.trail.flush();
    expect(await ids()).toEqual(Array.from({ length: 3000 }, (_v, n) => `req_${n}`));
    expect(await dropped(process)).toBe(0);
  });

  it('are bounded: once there is no room the newest are dropped and counted, never an older one', async () => {
    const process = startTrail();
    await away();
    for (let n = 0; n < 30_000; n++) {
      process.observers.finished(request(n));
      if (n % 5000 === 0) await process.trail.flush();
    }
    await process.trail.flush();
    await back();
    await process.trail.flush();
    const written = await ids();
    const lost = await dropped(process);
    expect([written.length, lost]).toEqual([20_000, 10_000]);
    expect(written).toEqual(Array.from({ length: 20_000 }, (_v, n) => `req_${n}`));
  });

  it('are not mixed up when there is no room left while a batch is on its way', async () => {
    const process = startTrail();
    for (let n = 0; n < 20_000; n++) process.observers.finished(request(n));
    await opened.beside.query('BEGIN');
    await opened.beside.query('LOCK TABLE audit_entries IN SHARE MODE');
    const flushing = process.trail.flush();
    await eventually(
      async () =>
        (await opened.beside.query(`SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'`)).rows.length >
        0,
    );
    for (let n = 20_000; n < 42_000; n++) process.observers.finished(request(n));
    await opened.beside.query('COMMIT');
    await flushing;
    await process.trail.flush();
    const written = await ids();
    expect(new Set(written).size).toBe(written.length);
    expect(written.length + (await dropped(process))).toBe(42_000);
    expect(written.slice(0, 1000)).toEqual(Array.from({ length: 1000 }, (_v, n) => `req_${n}`));
    expect(written.at(-1)).toBe('req_19999');
  });

  it('go on past one that the database refuses', async () => {
    const process = startTrail();
    await opened.beside.query(`ALTER TABLE audit_entries ADD CHECK (request_id <> 'req_700')`);
    for (let n = 0; n < 1500; n++) process.observers.finished(request(n));
    await process.trail.flush();
    expect(await ids()).toEqual(Array.from({ length: 1500 }, (_v, n) => `req_${n}`).filter((id) => id !== 'req_700'));
    expect(await dropped(process)).toBe(1);
  });

  it('are written before the process ends, and the end is bounded when they cannot be', async () => {
    const process = startTrail();
    for (let n = 0; n < 10; n++) process.observers.finished(request(n));
    await process.trail.onApplicationShutdown();
    expect(await ids()).toHaveLength(10);
    await away();
    process.observers.finished(request(11));
    const begin = performance.now();
    await process.trail.onApplicationShutdown();
    expect(performance.now() - begin).toBeLessThan(6000);
    await back();
  });

  it('hold hostile text without its worst', async () => {
    const process = startTrail();
    process.observers.finished(
      request(1, { userAgent: `a\0b\ud800${'x'.repeat(1000)}`, path: `/p\0${'y'.repeat(2000)}` }),
    );
    await process.trail.flush();
    const { rows } = await opened.beside.query<{ user_agent: string; action: string }>('SELECT * FROM audit_entries');
    expect(rows[0].user_agent).toHaveLength(300);
    expect(rows[0].user_agent.startsWith('ab')).toBe(true);
    expect(rows[0].action).toHaveLength(500);
  });
});

describe('The entry of a change', () => {
  const change = (requestId: string, work: () => Promise<unknown>): Promise<unknown> =>
    runInContext({ requestId, startedAt: 0, method: 'POST', path: '/api/v1/things' }, () =>
      opened.db.transaction(work),
    );

  it('is there once, however often the transaction is tried, and not when it is rolled back', async () => {
    startTrail();
    let attempts = 0;
    await change('req_again', async () => {
      if (++attempts < 3) await opened.db.query(`DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$`);
    });
    await expect(change('req_never', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(attempts).toBe(3);
    expect(await ids()).toEqual(['req_again']);
  });
});

describe('Minutes', () => {
  const minute = (actor: string): FinishedRequest => ({
    ...request(0, { route: `/api/v1/telemetry/${actor}` }),
    audit: 'minute',
  });

  it('are counted together by two processes and sealed once, whoever comes first', async () => {
    const processes = [startTrail(), startTrail()];
    for (const { observers } of processes) {
      for (let n = 0; n < 300; n++) observers.finished(minute(`route-${n % 30}`));
    }
    await Promise.all(processes.map(({ trail }) => trail.flush()));
    await Promise.all(processes.map(({ trail }) => trail.flush()));
    await opened.beside.query(`UPDATE audit_minutes SET minute = minute - interval '5 minutes'`);
    await Promise.all([0, 1, 0, 1].map((i) => processes[i].trail.sealMinutes()));
    const { rows } = await opened.beside.query<{ entries: number; requests: number; open: number }>(
      `SELECT count(*)::int AS entries, sum(count)::int AS requests, (SELECT count(*)::int FROM audit_minutes) AS open FROM audit_entries`,
    );
    expect(rows[0]).toEqual({ entries: 30, requests: 600, open: 0 });
  });

  it('that could not be written are counted on', async () => {
    const process = startTrail();
    await opened.beside.query('ALTER TABLE audit_minutes RENAME TO elsewhere');
    process.observers.finished(minute('a'));
    await process.trail.flush();
    process.observers.finished(minute('a'));
    await opened.beside.query('ALTER TABLE elsewhere RENAME TO audit_minutes');
    await process.trail.flush();
    const { rows } = await opened.beside.query<{ sum: string }>('SELECT sum(count) FROM audit_minutes');
    expect(Number(rows[0].sum)).toBe(2);
  });
});

it('Failures are found without reading the whole trail', async () => {
  await opened.beside.query(
    `INSERT INTO audit_entries (at, actor_id, action, status_code)
     SELECT now(), 'user_1', 'GET /', CASE WHEN n % 1000 = 0 THEN 500 ELSE 200 END FROM generate_series(1, 20000) n`,
  );
  await opened.beside.query('ANALYZE audit_entries');
  const { rows } = await opened.beside.query<{ 'QUERY PLAN': string }>(
    'EXPLAIN SELECT * FROM audit_entries WHERE status_code = 500 ORDER BY at DESC, id DESC LIMIT 21',
  );
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
  expect(plan).toMatch(/Index Scan Backward using audit_entries_p\d{6}_status_code_at_id_idx/);
  expect(plan).not.toContain('Sort');
});

describe('Requests of strangers', () => {
  interface Count {
    action: string;
    network: string;
    status_code: number;
    count: number;
  }
  const counts = async (): Promise<Count[]> =>
    (
      await opened.beside.query<Count>(
        `SELECT action, network, status_code, sum(count)::int AS count FROM audit_minutes
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
      )
    ).rows;
  const entries = async (): Promise<number> => (await opened.beside.query('SELECT 1 FROM audit_entries')).rows.length;
  const stranger = (ip: string, route?: string): FinishedRequest => ({
    ...request(0, { actor: undefined, ip, route, path: `/anything/${Math.random()}` }),
    status: 404,
  });

  it('are counted by network and route, whatever path and address they use', async () => {
    const { trail, observers } = startTrail();
    for (let n = 0; n < 200; n++) {
      observers.finished(stranger(`203.0.113.${n}`));
      observers.finished(stranger(`2001:db8:0:1::${n}`));
      observers.finished({ ...stranger(`198.51.100.${n}`, '/api/v1/ai/agents'), status: 401 });
    }
    await trail.flush();
    expect(await counts()).toEqual([
      { action: 'GET /api/v1/ai/agents', network: '198.51.100.0/24', status_code: 401, count: 200 },
      { action: 'GET unmatched', network: '2001:db8:0:1::/64', status_code: 404, count: 200 },
      { action: 'GET unmatched', network: '203.0.113.0/24', status_code: 404, count: 200 },
    ]);
    expect(await entries()).toBe(0);
    await opened.beside.query(`UPDATE audit_minutes SET minute = minute - interval '5 minutes'`);
    await trail.sealMinutes();
    const { rows } = await opened.beside.query<{ ip_address: string }>('SELECT DISTINCT ip_address FROM audit_entries');
    expect(rows.map((row) => row.ip_address).sort()).toEqual([
      '198.51.100.0/24',
      '2001:db8:0:1::/64',
      '203.0.113.0/24',
    ]);
  });

  it('make few rows also when each comes from another network', async () => {
    const { trail, observers } = startTrail();
    for (let n = 0; n < 20_000; n++) {
      observers.finished(stranger(`2001:db8:${(n >> 8).toString(16)}:${(n & 255).toString(16)}::1`));
      if (n % 5000 === 0) await trail.flush();
    }
    await trail.flush();
    const rows = await counts();
    // Five hundred networks by name in each minute that the test touches, and the rest together.
    expect(rows.length).toBeLessThanOrEqual(1500);
    expect(rows.reduce((sum, { count }) => sum + count, 0)).toBe(20_000);
    expect(rows.find(({ network }) => network === '')?.count).toBeGreaterThan(15_000);
    expect(await entries()).toBe(0);
  });

  it('push no entry of a principal out of memory while the database is away', async () => {
    const process = startTrail();
    await away();
    for (let n = 0; n < 100; n++) process.observers.finished(request(n));
    for (let n = 0; n < 50_000; n++) process.observers.finished(stranger(`10.${(n >> 8) & 255}.${n & 255}.1`));
    process.observers.finished(request(100));
    await process.trail.flush();
    await back();
    await process.trail.flush();
    expect(await ids()).toEqual(Array.from({ length: 101 }, (_v, n) => `req_${n}`));
    expect(await dropped(process)).toBe(0);
  });

  it('are told from principals, whose refusals by a rate limit are counted too and other refusals are entries', async () => {
    const { trail, observers } = startTrail();
    for (let n = 0; n < 50; n++) {
      observers.finished({ ...request(n, { route: '/api/v1/commands/:id', ip: `192.0.2.${n}` }), status: 429 });
    }
    observers.finished({ ...request(50), status: 404 });
    await trail.flush();
    expect(await counts()).toEqual([{ action: 'GET /api/v1/commands/:id', network: '', status_code: 429, count: 50 }]);
    expect(await ids()).toEqual(['req_50']);
  });
});

describe('Months', () => {
  const insert = (at: string): Promise<unknown> =>
    opened.beside.query(
      `INSERT INTO audit_entries (at, actor_id, action, status_code, request_id) VALUES ($1::text::timestamptz, 'user_1', 'GET /', 200, $1::text)`,
      [at],
    );
  const partitions = async (): Promise<string[]> =>
    (
      await opened.beside.query<{ name: string }>(
        `SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit_entries'::regclass ORDER BY 1`,
      )
    ).rows.map(({ name }) => name);
  const monthsAgo = (months: number): Date => {
    const now = new Date();
    return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - months, 15));
  };

  it('are made ahead, and dropped whole once the retention is over', async () => {
    const settings = readSettings({ NEXUS_AUDIT_RETENTION_DAYS: '70' });
    const [first] = await partitions();
    await opened.beside.query(`ALTER TABLE audit_entries DETACH PARTITION ${first}`);
    await opened.beside.query(`DROP TABLE ${first}`);
    const made = new RangePartitions(opened.db.bulk, 'audit_entries', 'month');
    for (const months of [5, 4, 2, 0]) {
      await made.create(monthsAgo(months).getTime());
      await insert(monthsAgo(months).toISOString());
    }
    const { months, retention } = partitionsOf(settings);
    await Promise.all([months.onApplicationBootstrap(), months.onApplicationBootstrap()]);
    await retention.run();
    await retention.run();
    const suffix = (date: Date): string => date.toISOString().slice(0, 7).replace('-', '');
    expect(await partitions()).toEqual([2, 0, -1, -2].map((n) => `audit_entries_p${suffix(monthsAgo(n))}`));
    expect(await ids()).toEqual([2, 0].map((n) => monthsAgo(n).toISOString()));
  });

  it('guard their entries also when they are named themselves', async () => {
    await partitionsOf(readSettings({})).months.onApplicationBootstrap();
    const names = await partitions();
    expect(names).toHaveLength(3);
    for (const name of [...names, 'audit_entries']) {
      for (const change of [`UPDATE ${name} SET actor_id = 'x'`, `DELETE FROM ${name}`, `TRUNCATE ${name}`]) {
        await expect(opened.beside.query(change)).rejects.toThrow('append-only');
      }
    }
  });
});
