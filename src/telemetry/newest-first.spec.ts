import { describe, expect, it } from 'vitest';
import { readNewestFirst, type Stretch } from './newest-first.js';

const MINUTE = 60_000;
const DAY = 86_400_000;

/** Reads everything of `whole`, `msPerDay` for each day; stops when told to. */
async function play(
  whole: Stretch,
  budgetMs: number,
  msPerDay: number,
  wants: (at: number) => boolean = () => true,
): Promise<{ read: Stretch[]; rest: number | null }> {
  const read: Stretch[] = [];
  let now = 0;
  const rest = await readNewestFirst(
    whole,
    budgetMs,
    (stretch) => {
      read.push(stretch);
      now += ((stretch.until - stretch.since) / DAY) * msPerDay;
      return Promise.resolve(wants(stretch.since));
    },
    () => now,
  );
  return { read, rest };
}

describe('reading the newest first', () => {
  const month = { since: -1, until: 30 * DAY };

  it('reads all of a quiet time in a few stretches that leave nothing out', async () => {
    const { read, rest } = await play(month, 3000, 1);
    expect(rest).toBeNull();
    expect(read.length).toBeLessThan(12);
    expect(read[0].until).toBe(month.until);
    expect(read.at(-1)?.since).toBe(month.since);
    for (let n = 1; n < read.length; n++) expect(read[n].until).toBe(read[n - 1].since);
  });

  it('ends soon after its time, and says where', async () => {
    const { read, rest } = await play(month, 3000, 10_000);
    expect(rest).toBe(read.at(-1)?.since);
    const took = ((month.until - (rest ?? 0)) / DAY) * 10_000;
    expect(took).toBeGreaterThanOrEqual(3000);
    expect(took).toBeLessThan(4000);
  });

  it('reads no more than is wanted, and nothing of an empty time', async () => {
    const { read, rest } = await play(month, 3000, 1, (at) => at > month.until - 3 * MINUTE);
    expect(rest).toBeNull();
    expect(read).toHaveLength(2);
    expect(await play({ since: 5, until: 5 }, 3000, 1)).toEqual({ read: [], rest: null });
  });
});
