import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { KillableWorker } from './killable-worker.js';

/** Kills here; NEXUS_TEST_KILLS=20 runs the long version. */
const KILLS = Number(process.env.NEXUS_TEST_KILLS ?? 5);
const EVENTS = 1000;

let both: KillableWorker;
beforeAll(async () => {
  both = await KillableWorker.start();
}, 120_000);
afterAll(() => both?.stop());

it(
  `kill -9 of the worker, ${KILLS} times in the middle of ${EVENTS} deliveries, loses none and leaves no gap in the log`,
  async () => {
    const { bench } = both;
    const { app, receiver } = bench;
    // Slow enough that every kill finds requests under way.
    receiver.answer = (response) => void setTimeout(() => response.writeHead(204).end(), 20);
    const { id } = await bench.register();
    await app.db.query(
      `INSERT INTO events (id, type, subject, data, actor_id)
       SELECT gen_random_uuid(), 'ai.agent_registered', 'agent_' || n,
         jsonb_build_object('agent_id', 'agent_' || n, 'agent_name', 'kill-test', 'agent_type', 'test'), 'system'
       FROM generate_series(1, ${EVENTS}) AS n`,
    );
    for (let kill = 1; kill <= KILLS; kill++) {
      const before = receiver.received.length;
      const enough = Math.floor((EVENTS / (KILLS + 1)) * 0.9);
      await eventually(() => receiver.received.length >= before + enough, 60_000);
      await both.killWorker();
      await both.startWorker();
    }
    await eventually(async () => {
      const { body } = await app.call<{ stats: { pending: number } }>('GET', `/api/v1/webhooks/${id}`, {
        key: bench.key,
      });
      return receiver.received.length >= EVENTS && body.stats.pending === 0;
    }, 120_000);

    const deliveries = await app.db.query<{
      id: string;
      event_id: string;
      body: Buffer;
      status: string;
      attempts: number;
      logged: number[];
      told: (string | null)[];
    }>(
      `SELECT d.id, d.event_id, d.body, d.status, d.attempts, array_agg(a.n ORDER BY a.n) AS logged,
         array_agg(a.delivery_info::text ORDER BY a.n) AS told
       FROM webhook_deliveries d LEFT JOIN webhook_attempts a ON a.delivery_id = d.id GROUP BY d.id`,
    );
    expect(deliveries).toHaveLength(EVENTS);
    const bodies = new Map(deliveries.map((d) => [`evt_${d.event_id}`, d.body.toString('utf8').slice(0, -1)]));
    const logged = new Map<string, string | null>(
      deliveries.flatMap((d) => d.logged.map((n, at) => [`dlv_${d.id}.${n}`, d.told[at]] as const)),
    );
    for (const { status, attempts, logged: numbers } of deliveries) {
      expect(status).toBe('delivered');
      expect(numbers).toEqual(Array.from({ length: attempts }, (_, n) => n + 1));
    }
    const arrived = new Set(receiver.received.map(({ headers }) => headers['webhook-id']));
    expect(arrived).toEqual(new Set(bodies.keys()));
    for (const { headers, body } of receiver.received) {
      const attempt = String(headers['x-nexus-delivery']);
      expect(logged.has(attempt)).toBe(true);
      // What the log keeps is exactly what was sent; of an attempt that was cut off it keeps nothing.
      const stored = `${bodies.get(String(headers['webhook-id']))},"delivery_info":${logged.get(attempt) ?? ''}`;
      if (logged.get(attempt)) expect(body.toString('utf8')).toBe(`${stored}}`);
      else expect(body.toString('utf8').startsWith(stored)).toBe(true);
    }
    const [{ interrupted }] = await app.db.query<{ interrupted: number }>(
      `SELECT count(*)::int AS interrupted FROM webhook_attempts WHERE error_code = 'INTERRUPTED'`,
    );
    expect(interrupted).toBeGreaterThan(0);
  },
  KILLS * 30_000 + 180_000,
);
