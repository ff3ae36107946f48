import { describe, expect, it } from 'vitest';
import { Lanes } from './lanes.js';

const LIMITS = { total: 20, most: 40, perWebhook: 4, suspects: 3 };

function offer(lanes: Lanes, webhook: string, count: number, failing = false): void {
  for (let n = 0; n < count; n++) lanes.offer({ id: `${webhook}-${n}`, webhookId: webhook, failing });
}

describe('lanes', () => {
  it('serve webhooks in turn, two requests at once until one has gone well', () => {
    const lanes = new Lanes(LIMITS);
    offer(lanes, 'a', 6);
    offer(lanes, 'b', 1);
    expect(lanes.take(100)).toEqual(['a-0', 'b-0', 'a-1']);
    lanes.release('a-0', 'good');
    expect(lanes.take(100)).toEqual(['a-2', 'a-3', 'a-4']);
  });

  it('give failing webhooks one slot each out of a small share, and the rest to the others', () => {
    const lanes = new Lanes(LIMITS);
    for (let n = 0; n < 100; n++) offer(lanes, `dead${n}`, 5, true);
    expect(lanes.take(100)).toHaveLength(3);
    offer(lanes, 'good', 2);
    expect(lanes.take(100)).toEqual(['good-0', 'good-1']);
    lanes.release('dead0-0', 'suspect');
    expect(lanes.take(100)).toHaveLength(1);
  });

  it('never send more at once than all together may', () => {
    const lanes = new Lanes(LIMITS);
    for (let n = 0; n < 50; n++) offer(lanes, `w${n}`, 3);
    expect(lanes.take(100)).toHaveLength(20);
    expect(lanes.take(100)).toEqual([]);
  });

  it('take a delivery once, however often it is offered', () => {
    const lanes = new Lanes(LIMITS);
    offer(lanes, 'a', 1);
    offer(lanes, 'a', 1);
    expect(lanes.take(100)).toEqual(['a-0']);
    offer(lanes, 'a', 1);
    expect(lanes.take(100)).toEqual([]);
    lanes.release('a-0');
    expect(lanes.busy).toBe(false);
    offer(lanes, 'a', 1);
    expect(lanes.take(100)).toEqual(['a-0']);
  });

  it('leave a webhook alone for as long as its host is left alone', () => {
    let now = 0;
    const lanes = new Lanes(LIMITS, () => now);
    offer(lanes, 'a', 3);
    lanes.take(1);
    lanes.release('a-0', 'left_alone', 1000);
    offer(lanes, 'a', 3);
    expect(lanes.take(100)).toEqual([]);
    expect(lanes.unready()).toEqual(['a']);
    now = 1001;
    expect(lanes.unready()).toEqual([]);
    offer(lanes, 'a', 3);
    expect(lanes.take(100)).toHaveLength(2);
  });

  it('ask for no more of a webhook when a few wait that fails, and many that does not', () => {
    const lanes = new Lanes(LIMITS);
    offer(lanes, 'dead', 10, true);
    offer(lanes, 'good', 99);
    expect(lanes.unready()).toEqual(['dead']);
    lanes.offer({ id: 'one-more', webhookId: 'good', failing: false });
    expect(lanes.unready()).toEqual(['dead', 'good']);
  });

  it('count suspects right when their standing changes under way', () => {
    const lanes = new Lanes(LIMITS);
    offer(lanes, 'a', 4);
    lanes.take(2);
    lanes.release('a-0', 'suspect');
    lanes.release('a-1', 'good');
    for (let n = 0; n < 10; n++) offer(lanes, `dead${n}`, 1, true);
    // Three suspects, and two for the one that is good again.
    expect(lanes.take(100)).toHaveLength(5);
  });

  it('serve the others as soon as those that begin to hang together are late', () => {
    const lanes = new Lanes(LIMITS);
    for (let n = 0; n < 10; n++) offer(lanes, `w${n}`, 9);
    const hanging = lanes.take(100);
    expect(hanging).toHaveLength(20);
    offer(lanes, 'good', 2);
    expect(lanes.take(100)).toEqual([]);
    for (const id of hanging) lanes.late(id);
    // Nothing more for those that hang: they are more than suspects may be already.
    expect(lanes.take(100)).toEqual(['good-0', 'good-1']);
    for (const id of hanging) lanes.release(id, 'suspect');
    expect(lanes.take(100)).toHaveLength(3);
  });

  it('never have more requests under way than the most, however many are late', () => {
    const lanes = new Lanes(LIMITS);
    let underWay = 0;
    for (let round = 0; round < 5; round++) {
      for (let n = 0; n < 10; n++) offer(lanes, `w${round}-${n}`, 2);
      const taken = lanes.take(100);
      underWay += taken.length;
      for (const id of taken) lanes.late(id);
    }
    expect(underWay).toBe(40);
  });
});
