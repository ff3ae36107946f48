import { describe, expect, it } from 'vitest';
import { compileExpression, contextOf } from './expression.js';
import type { JudgedEvent } from './judged-event.js';

function holds(condition: string, data: object): boolean | undefined {
  const row = { eventType: 'a', source: 's', metric: null, ts: 0, data: JSON.stringify(data) };
  return compileExpression(condition)(contextOf(row as JudgedEvent));
}

describe('an expression', () => {
  it('sees the first 4096 characters of a text in data, wherever it is', () => {
    const text = 'x'.repeat(4095);
    expect(holds('size(data.text) == 4096', { text: `${text}yz` })).toBe(true);
    expect(holds('data.list[0].text.endsWith("y")', { list: [{ text: `${text}yz` }] })).toBe(true);
    expect(holds('data.n == 1.0 && data.text.size() == 3', { n: 1, text: 'abc', other: `${text}yz` })).toBe(true);
  });

  it('calls ten functions on texts at most', () => {
    const calls = (n: number) => `data.s${'.trim()'.repeat(n)} == "q"`;
    expect(() => compileExpression(calls(10))).not.toThrow();
    expect(() => compileExpression(calls(11))).toThrow(/must not call more than 10 functions on texts \(size, /);
    expect(() => compileExpression('int(data.a) + int(data.b) > 1 && has(data.c)')).not.toThrow();
    expect(() => compileExpression(`data.s.contains(${'string('.repeat(10)}data.t${')'.repeat(10)})`)).toThrow(
      /10 functions/,
    );
  });
});
