import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentStatusChanged } from '../../src/agents/agents.events.js';
import { Database } from '../../src/platform/database/index.js';
import { EventBus, EventFeed, type StoredEvent } from '../../src/platform/events/index.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';

let here: TestApp;
let there: TestApp;
beforeAll(async () => {
  here = await startTestApp();
  there = await startTestApp({ DATABASE_URL: here.db.url });
});
afterAll(async () => {
  await there.stop();
  await here.stop();
});

const numbered = (n: number): object => ({
  agent_id: `n${n}`,
  agent_name: 'a',
  status: 'active',
  previous_status: 'offline',
});

async function publish(app: TestApp, from: number, to: number, subject = `agent_${randomUUID()}`): Promise<void> {
  for (let n = from; n < to; n++) {
    await app.get(Database).transaction(async (tx) => {
      await app.get(EventBus).publishMany(tx, [{ event: AgentStatusChanged, subject, data: numbered(n) }]);
    });
  }
}

const numbers = (events: StoredEvent[]): number[] =>
  events.map((event) => Number(String(event.data.agent_id).slice(1)));

describe('the event feed', () => {
  it('gives every process all events once and in one order, whoever wrote them', async () => {
    const [heardHere, heardThere]: StoredEvent[][] = [[], []];
    const stop = [
      here.get(EventFeed).subscribe((event) => heardHere.push(event)),
      there.get(EventFeed).subscribe((event) => heardThere.push(event)),
    ];
    await Promise.all([here.get(EventFeed).started(), there.get(EventFeed).started()]);
    await Promise.all([publish(here, 0, 150), publish(there, 1000, 1150)]);
    await eventually(() => heardHere.length >= 300 && heardThere.length >= 300);
    expect(heardThere).toEqual(heardHere);
    expect(new Set(heardHere.map(({ id }) => id)).size).toBe(300);
    const mine = numbers(heardHere).filter((n) => n < 1000);
    expect(mine).toEqual([...mine].sort((a, b) => a - b));
    const seqs = heardHere.map(({ seq }) => BigInt(seq));
    expect(seqs.every((seq, i) => i === 0 || seq > seqs[i - 1])).toBe(true);
    stop.forEach((end) => end());
  });

  it('goes on where a message between processes was lost', async () => {
    const heard: StoredEvent[] = [];
    const stop = there.get(EventFeed).subscribe((event) => heard.push(event));
    await there.get(EventFeed).started();
    const [row] = await here.db.query<{ seq: string }>(
      `INSERT INTO events (id, seq, type, subject, data, actor_id, relayed_at)
       VALUES ($1, nextval('events_seq'), 'test.lost', 'agent_x', '{}', 'system', now()) RETURNING seq`,
      [randomUUID()],
    );
    await eventually(() => heard.some(({ seq }) => seq === row.seq), 3000);
    stop();
  });

  it('reads again what came after a place, and nothing while nobody listens', async () => {
    const feed = here.get(EventFeed);
    const place = await feed.newestSeq();
    await publish(here, 0, 5);
    const missed = await eventually(async () => {
      const events = await feed.since(place, 100);
      return events.length === 5 && events;
    });
    expect(numbers(missed)).toEqual([0, 1, 2, 3, 4]);
    expect(await feed.since(place, 2)).toEqual(missed.slice(0, 2));
    expect(await feed.placeOf(missed[3].id)).toBe(missed[3].seq);
    expect(await feed.placeOf(randomUUID())).toBeNull();
    expect(BigInt((await feed.oldestSeq()) as string)).toBeLessThanOrEqual(BigInt(place));
    await expect(feed.started()).rejects.toThrow('Nobody');
    const heard: StoredEvent[] = [];
    const stop = feed.subscribe((event) => heard.push(event));
    await feed.started();
    await publish(here, 7, 8);
    await eventually(() => heard.length > 0);
    expect(numbers(heard)).toEqual([7]);
    stop();
  });

  it('is not stopped by a listener that fails', async () => {
    const feed = here.get(EventFeed);
    const heard: StoredEvent[] = [];
    const stop = [
      feed.subscribe(() => {
        throw new Error('broken');
      }),
      feed.subscribe((event) => heard.push(event)),
    ];
    await feed.started();
    await publish(here, 0, 3);
    await eventually(() => heard.length === 3);
    stop.forEach((end) => end());
  });
});
