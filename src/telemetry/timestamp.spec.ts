import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTimestamp } from './timestamp.js';

describe('parseTimestamp', () => {
  it('reads every moment that a date can hold, in any order', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date(0), max: new Date('9999-12-31T23:59:59.999Z'), noInvalidDate: true }),
        (date) => {
          expect(parseTimestamp(date.toISOString())).toBe(date.getTime());
        },
      ),
    );
  });

  it.each([
    ['2026-02-28T23:59:59.999Z', 1772323199999],
    ['2026-02-28T23:59:59.9999Z', 1772323199999],
    ['2026-02-28T23:59Z', 1772323140000],
    ['2026-03-01T01:59:59+02:00', 1772323199000],
    ['2026-02-28T24:00:00.000Z', 1772323200000],
    ['2024-02-29T00:00:00.000Z', 1709164800000],
  ])('reads %s', (text, ms) => {
    expect(parseTimestamp(text)).toBe(ms);
  });

  it.each([
    '2026-02-30T10:00:00.000Z',
    '2026-02-28T10:00:60.000Z',
    '2026-02-28T24:00:01.000Z',
    '2026-02-28T10:00:0x.000Z',
    '2026-02-28T10:00:00.00xZ',
    '2026-02-28T10:00:00,000Z',
    '2026-02-28 10:00:00.000Z',
    '2026-02-28T10:00:00.000',
    '2026-13-01T10:00:00.000Z',
    '',
    null,
    1772323199999,
  ])('refuses %s, also after a good one of the same minute', (text) => {
    parseTimestamp('2026-02-28T10:00:00.000Z');
    expect(parseTimestamp(text)).toBeNaN();
  });
});
