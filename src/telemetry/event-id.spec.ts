import { describe, expect, it } from 'vitest';
import { EventIds } from './event-id.js';

const VERSION_4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('EventIds', () => {
  it.each([1, 1000])('makes %i ids of version 4 that begin with the time and differ', (count) => {
    const now = Date.UTC(2026, 10, 21);
    const ids = new EventIds(count, now);
    const texts = Array.from({ length: count }, (_, i) => ids.text(i));
    expect(texts.filter((text) => !VERSION_4.test(text))).toEqual([]);
    expect(new Set(texts.map((text) => parseInt(text.slice(0, 13).replace('-', ''), 16)))).toEqual(new Set([now]));
    expect(new Set(texts).size).toBe(count);
  });

  it('gives every request its own', () => {
    const first = new EventIds(1, 1);
    const text = first.text(0);
    for (let i = 0; i < 3000; i++) expect(new EventIds(1, 1).text(0)).not.toBe(text);
    expect(first.text(0)).toBe(text);
  });

  it('holds the id of a caller in lower case', () => {
    const ids = new EventIds(3, 1);
    const others = [ids.text(0), ids.text(2)];
    ids.put(1, '0123ABCD-4567-89EF-fedc-BA9876543210');
    expect(ids.text(1)).toBe('0123abcd-4567-89ef-fedc-ba9876543210');
    expect([ids.text(0), ids.text(2)]).toEqual(others);
  });
});
