import { afterAll, beforeAll, expect, it } from 'vitest';
import { ApiDocument } from '../../src/platform/http/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

interface Operation {
  parameters?: { name: string; in: string }[];
}

interface Refusal {
  error: { details: { field: string; expected: string; location: string }[] };
}

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ NEXUS_LOG_LEVEL: 'silent' });
});
afterAll(() => app.stop());

it('is told what is wrong with a cursor that no list has given', async () => {
  const { key } = await actor(app);
  const { paths } = app.get(ApiDocument).get() as unknown as { paths: Record<string, Record<string, Operation>> };
  const lists = Object.entries(paths)
    .filter(([path, { get }]) => !path.includes('{') && get?.parameters?.some(({ name }) => name === 'cursor'))
    .map(([path, { get }]) =>
      get.parameters?.some(({ name }) => name === 'metric_name') ? `${path}?metric_name=cpu&` : `${path}?`,
    );
  expect(lists.length).toBeGreaterThan(10);
  const foreign = [
    [],
    [1],
    ['a'],
    [null, null],
    ['2025-01-15T10:30:00.000Z', 'x'],
    ['a', 'b', 'c'],
    [{}, []],
    [-1, 1e300],
  ];
  const wrong: unknown[] = [];
  for (const path of lists) {
    for (const keys of foreign) {
      const cursor = Buffer.from(JSON.stringify(keys)).toString('base64url');
      const { status, body } = await app.call<Refusal>('GET', `${path}cursor=${cursor}`, { key });
      // Lists of names go on after any name.
      if (status === 200 && keys[0] === 'a' && keys.length === 1) continue;
      const issue = status === 400 ? body.error.details[0] : undefined;
      if (!issue?.expected || issue.location !== 'query') wrong.push({ path, keys, body });
    }
  }
  expect(wrong).toEqual([]);
}, 120_000);
