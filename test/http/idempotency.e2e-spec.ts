import { randomUUID } from 'node:crypto';
import { Body, Controller, HttpCode, Post, Res } from '@nestjs/common';
import type { Response } from 'express';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { currentContext } from '../../src/platform/context/index.js';
import { Database } from '../../src/platform/database/index.js';
import { AppError } from '../../src/platform/errors/index.js';
import { Allow, NotIdempotent, Wire } from '../../src/platform/http/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { type Harness, startHarness } from './harness.js';

const committed: string[] = [];

@Wire('envelope')
@Controller('notes')
class NotesController {
  constructor(private readonly db: Database) {}

  @Post()
  @Allow('note:write')
  async add(@Body() body: { text: string }, @Res({ passthrough: true }) response: Response): Promise<{ id: string }> {
    const id = randomUUID();
    await this.db.transaction(async (tx) => {
      await tx.query('INSERT INTO notes (id, text) VALUES ($1, $2)', [id, body.text]);
      if (body.text === 'slow') await tx.query('SELECT pg_sleep(2.6)');
      this.db.afterCommit(tx, () => void committed.push(id));
    });
    if (body.text === 'bad') throw AppError.unprocessable('Not that');
    response.setHeader('Location', `/notes/${id}`);
    return { id };
  }

  @Post('secret')
  @HttpCode(200)
  @Allow()
  secret(): { token: string } {
    return { token: 'the-secret-token' };
  }

  @Post('own')
  @NotIdempotent()
  @Allow()
  own(): { id: string } {
    return { id: randomUUID() };
  }
}

describe('Idempotency-Key', () => {
  let server: Harness;
  beforeAll(async () => {
    server = await startHarness([NotesController]);
    await server.db.query('CREATE TABLE notes (id uuid PRIMARY KEY, text text)');
  });
  afterAll(() => server.stop());

  const post = async (body: unknown, key?: string, who = 'ann', path = '/notes') => {
    const response = await fetch(`${server.url}/api/v1${path}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${who}`,
        'content-type': 'application/json',
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: JSON.parse(text) as Record<string, unknown>,
    };
  };
  const notes = async (text: string): Promise<number> =>
    (await server.db.query<{ count: number }>('SELECT count(*)::int AS count FROM notes WHERE text = $1', [text]))[0]
      .count;

  it('does the work once and repeats the answer word for word', async () => {
    const first = await post({ text: 'once' }, 'key-1');
    const second = await post({ text: 'once' }, 'key-1');
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.json).toEqual(first.json);
    expect(second.headers.get('location')).toBe(first.headers.get('location'));
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    expect(await notes('once')).toBe(1);
    expect(committed).toContain((first.json.data as { id: string }).id);
  });

  it('takes the key as a field of the body too, which the route does not see', async () => {
    const body = { text: 'by field', idempotency_key: 'key-11' };
    const [first, second] = [await post(body), await post(body)];
    expect([first.status, second.headers.get('idempotency-replayed')]).toEqual([201, 'true']);
    expect(second.json).toEqual(first.json);
    expect(await notes('by field')).toBe(1);
    expect((await post({ ...body, text: 'changed' })).status).toBe(409);
    expect((await post(body, 'key-11')).status).toBe(201);
    const refused = [await post(body, 'other-key'), await post({ ...body, idempotency_key: 7 })];
    for (const { status, text } of refused) {
      expect([status, text]).toEqual([400, expect.stringContaining('idempotency_key')]);
    }
    expect((await post({ ...body, idempotency_key: null })).status).toBe(400);
  });

  it('refuses the key for another body, and keeps callers apart', async () => {
    await post({ text: 'mine' }, 'key-2');
    const other = await post({ text: 'changed' }, 'key-2');
    expect(other.status).toBe(409);
    expect((other.json.error as { code: string }).code).toBe('RESOURCE_CONFLICT');
    expect(await notes('changed')).toBe(0);
    expect((await post({ text: 'mine' }, 'key-2', 'bob')).headers.get('idempotency-replayed')).toBeNull();
    expect(await notes('mine')).toBe(2);
  });

  it('keeps the keys of a user apart, which may do different things', async () => {
    await post({ text: 'by a key' }, 'key-9', 'ann~strong');
    const replayed = async (who: string): Promise<boolean> =>
      (await post({ text: 'by a key' }, 'key-9', who)).headers.get('idempotency-replayed') === 'true';
    expect([await replayed('ann~weak'), await replayed('ann'), await replayed('ann~strong')]).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('lets one of many at the same time do the work', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => post({ text: 'crowd' }, 'key-3')));
    expect(new Set(answers.map((a) => a.text)).size).toBe(1);
    expect(answers.filter((a) => a.headers.get('idempotency-replayed') === null)).toHaveLength(1);
    expect(await notes('crowd')).toBe(1);
  });

  it('answers 409 while the first is still at work', async () => {
    const first = post({ text: 'slow' }, 'key-4');
    await server.db.query(`
      DO $$ BEGIN FOR i IN 1..500 LOOP
        EXIT WHEN EXISTS (SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active');
        PERFORM pg_sleep(0.005); PERFORM pg_stat_clear_snapshot();
      END LOOP; END $$`);
    const second = await post({ text: 'slow' }, 'key-4');
    expect(second.status).toBe(409);
    expect((await first).status).toBe(201);
    expect(await notes('slow')).toBe(1);
  });

  it('stores nothing of a refused request', async () => {
    expect((await post({ text: 'bad' }, 'key-5')).status).toBe(422);
    expect(await notes('bad')).toBe(0);
    expect((await post({ text: 'good' }, 'key-5')).status).toBe(201);
  });

  it('keeps answers encrypted', async () => {
    expect((await post({}, 'key-6', 'ann', '/notes/secret')).text).toContain('the-secret-token');
    expect((await post({}, 'key-6', 'ann', '/notes/secret')).text).toContain('the-secret-token');
    const rows = await server.db.query<{ body: string }>(`SELECT body FROM idempotency_keys WHERE key = 'key-6'`);
    expect(rows).toHaveLength(1);
    expect(rows[0].body).not.toContain('secret');
  });

  it('refuses malformed keys and leaves exempt routes alone', async () => {
    for (const key of ['', 'a b', 'x'.repeat(256)]) expect((await post({ text: 'k' }, key)).status).toBe(400);
    const [one, two] = [await post({}, 'key-7', 'ann', '/notes/own'), await post({}, 'key-7', 'ann', '/notes/own')];
    expect(one.text).not.toBe(two.text);
  });

  it('forgets after a day', async () => {
    await post({ text: 'old' }, 'key-8');
    await post({ text: 'older' }, 'key-9');
    await server.db.query(
      `UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE key IN ('key-8', 'key-9')`,
    );
    expect((await post({ text: 'new' }, 'key-8')).status).toBe(201);
    await server.app.get(Retention).run();
    expect(await server.db.query(`SELECT key FROM idempotency_keys WHERE key IN ('key-8', 'key-9')`)).toEqual([
      { key: 'key-8' },
    ]);
  });

  it('runs the steps before the commit once, in the outer transaction', async () => {
    const seen: (string | undefined)[] = [];
    // The server's own work has transactions too, at any time.
    server.db.onBeforeCommit(async (_tx, context) => void (context.method && seen.push(context.requestId)));
    await post({ text: 'audited' }, 'key-10');
    expect(seen).toHaveLength(1);
    expect(currentContext()).toBeUndefined();
  });
});
