import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { locateData } from './raw-data.js';

/** What {@link locateData} finds, parsed; `undefined` for an event without `data`. */
function found(text: string, count: number): unknown {
  const body = Buffer.from(text);
  const spans = locateData(body, count);
  return (
    spans &&
    Array.from({ length: count }, (_, i) => {
      const [from, to] = [spans[2 * i], spans[2 * i + 1]];
      return to === 0 ? undefined : (JSON.parse(body.toString('utf8', from, to)) as unknown);
    })
  );
}

describe('the data of the events of a batch', () => {
  it('is found in any JSON, or the whole batch is left to the parser', () => {
    const plain = fc.record({
      event_type: fc.stringMatching(/^[a-z"{}[\]:,]{0,9}$/),
      metadata: fc.oneof(fc.constant(undefined), fc.dictionary(fc.string(), fc.jsonValue())),
      data: fc.oneof(
        { weight: 5, arbitrary: fc.dictionary(fc.oneof(fc.string(), fc.constant('data')), fc.jsonValue()) },
        fc.jsonValue(),
      ),
    });
    let seen = 0;
    fc.assert(
      fc.property(fc.array(fc.oneof({ weight: 9, arbitrary: plain }, fc.jsonValue())), fc.nat(3), (events, indent) => {
        const list = found(JSON.stringify({ events }, null, indent), events.length) as unknown[] | null;
        if (!list) return;
        seen++;
        const isObject = (v: unknown): v is object => typeof v === 'object' && v !== null && !Array.isArray(v);
        const wanted = (JSON.parse(JSON.stringify(events)) as unknown[]).map((event) => {
          const data: unknown = isObject(event) ? (event as { data?: unknown }).data : undefined;
          return isObject(data) ? data : undefined;
        });
        list.forEach((data, i) => {
          if (wanted[i] !== undefined) expect(data).toEqual(wanted[i]);
        });
      }),
      { numRuns: 500 },
    );
    expect(seen).toBeGreaterThan(20);
  });

  it('is found beside other containers, the last of the same name', () => {
    const text =
      '{ "events" :\n[ {"metadata":{"data":{"no":1}},"data" : {"a":"}\\"{","b":[{}]} }, {"data":{"x":1},"data":{"y":2.50}} ] }';
    expect(found(text, 2)).toEqual([{ a: '}"{', b: [{}] }, { y: 2.5 }]);
  });

  it.each([
    ['a key in other letters', '{"events":[{"data":{},"d\\u0061ta":{"a":1}}]}', 1],
    ['the events twice', '{"events":[{"data":{"a":1}}],"events":[{"data":{"a":2}},5]}', 2],
    ['an item that is no object', '{"events":[{"data":{}},5]}', 2],
    ['an exponent', '{"events":[{"data":{"value":1e-20000}}]}', 1],
    ['very many digits', `{"events":[{"data":{"value":0.${'1'.repeat(100)}}}]}`, 1],
  ])('is left to the parser with %s', (_name, text, count) => {
    expect(found(text, count)).toBeNull();
  });
});
