import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type Logger, Metrics } from '../platform/observability/index.js';
import type { TelemetryIngest } from '../telemetry/index.js';
import type { AlertRule } from './alert-rule.entity.js';
import type { AlertWriter, GroupWork } from './alert-writer.js';
import { AlertSettings } from './alerts.settings.js';
import { CompiledRule } from './compiled-rule.js';
import { Evaluator } from './evaluator.js';
import type { GroupDraft, Reading } from './group-draft.js';
import type { JudgedEvent } from './judged-event.js';
import { OpenGroups } from './open-groups.js';
import type { RuleSet } from './rule-set.js';

const CALLS = '.lowerAscii().upperAscii()'.repeat(4);
const TEXT = 'aB'.repeat(2000);

function ruleOf(id: string, condition: string): CompiledRule {
  const definition = { condition, event_type: 'slow', sources: [], tags: {}, group_by: ['source'], clear: null };
  const rest = { metric_name: null, operator: null, threshold: null, absent_for_seconds: null, times: 1 };
  return new CompiledRule({ id, version: 1, definition: { ...definition, ...rest } } as unknown as AlertRule);
}

function event(n: number, more: Partial<JudgedEvent> = {}): JudgedEvent {
  return {
    eventId: `event-${n}`,
    ts: n,
    receivedAt: n,
    eventType: 'slow',
    source: `s${n % 3}`,
    metric: null,
    series: null,
    data: JSON.stringify({ s: TEXT }),
    ...more,
  };
}

/** An evaluator with these rules, and the events that reach the writer, in order. */
function bench(rules: readonly CompiledRule[]): { evaluator: Evaluator; written: (rule: string) => string[] } {
  const written: [rule: string, event: string][] = [];
  const writer = {
    apply: async (works: readonly GroupWork[]) => {
      await turn();
      for (const work of works) {
        const takeEvents = (_: unknown, readings: Reading[]): void =>
          void written.push(...readings.map(({ row }): [string, string] => [work.rule.id, row.eventId]));
        work.act({ takeEvents } as unknown as GroupDraft);
      }
      return [];
    },
  } as unknown as AlertWriter;
  const evaluator = new Evaluator(
    { isEmpty: false, candidates: () => rules } as unknown as RuleSet,
    new OpenGroups(null as never, null as never),
    writer,
    new AlertSettings(),
    {} as Logger,
    { onFlushed: () => undefined } as unknown as TelemetryIngest,
    new Metrics(),
  );
  return { evaluator, written: (rule) => written.flatMap(([id, eventId]) => (id === rule ? [eventId] : [])) };
}

/** From now on each look at the clock takes a millisecond, however fast the machine is. */
function tickWithEachLook(): void {
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => now++);
}

/** Counts the turns of the event loop until `done`. */
async function turnsUntil(done: Promise<void>): Promise<number> {
  let [ended, turns] = [false, 0];
  void done.then(() => (ended = true));
  for (; !ended; turns++) await turn();
  return turns;
}

describe('Evaluator', () => {
  afterEach(() => vi.restoreAllMocks());

  it('gives the event loop back while it judges many events by many expensive rules', async () => {
    const rules = Array.from({ length: 20 }, (_, n) => ruleOf(`rule-${n}`, `data.s${CALLS} == "${n}"`));
    const { evaluator } = bench(rules);
    tickWithEachLook();
    evaluator.take(
      Array.from({ length: 500 }, (_, n) => event(n)),
      false,
    );
    expect(await turnsUntil(evaluator.settled())).toBeGreaterThan(100);
  });

  it('judges one event by very many rules in slices as well', async () => {
    const rules = Array.from({ length: 2000 }, (_, n) => ruleOf(`rule-${n}`, `data.s${CALLS} == "${n}"`));
    const { evaluator } = bench(rules);
    tickWithEachLook();
    evaluator.take([event(1)], false);
    expect(await turnsUntil(evaluator.settled())).toBeGreaterThan(100);
  });

  it('keeps the order in which events came, and counts each once', async () => {
    const rules = Array.from({ length: 20 }, (_, n) => ruleOf(`rule-${n}`, `data.s${CALLS} != "${n}"`));
    const { evaluator, written } = bench(rules);
    for (let batch = 0; batch < 5; batch++) {
      evaluator.take(
        Array.from({ length: 30 }, (_, n) => event(batch * 30 + n)),
        false,
      );
    }
    await evaluator.settled();
    const ofSource = (source: number) => Array.from({ length: 50 }, (_, n) => `event-${n * 3 + source}`);
    for (const { id } of rules) {
      const got = written(id);
      expect(got).toHaveLength(150);
      for (const source of [0, 1, 2]) {
        expect(got.filter((name) => ofSource(source).includes(name))).toEqual(ofSource(source));
      }
    }
  });

  it('says from when on something is not judged yet', async () => {
    const { evaluator } = bench([ruleOf('rule', `data.s${CALLS} == "a"`)]);
    expect(evaluator.openSince).toBe(Infinity);
    evaluator.take([event(7), event(5)], false);
    evaluator.take([event(9)], false);
    expect(evaluator.openSince).toBe(5);
    await evaluator.settled();
    expect(evaluator.openSince).toBe(Infinity);
    expect(evaluator.behindSince).toBeNull();
  });

  it('leaves out what comes when too much waits, and everything that is left once it must hurry', async () => {
    const { evaluator, written } = bench([ruleOf('rule', 'data.s != ""')]);
    const many = (from: number) => Array.from({ length: 15_000 }, (_, n) => event(from + n, { source: 's' }));
    evaluator.take(many(20_000), false);
    evaluator.take(many(50_000), false);
    expect(evaluator.behindSince).toBe(50_000);
    evaluator.take([event(100)], false);
    evaluator.hurry();
    evaluator.take([event(50)], false);
    await evaluator.settled();
    expect(evaluator.behindSince).toBe(50);
    expect(written('rule')).toEqual([]);
  });

  it('does not take for late what came before the newer events of its series', async () => {
    const { evaluator, written } = bench([ruleOf('rule', 'data.s != ""')]);
    const series = { lastSeen: 0 } as NonNullable<JudgedEvent['series']>;
    evaluator.take([event(1, { series }), event(2, { series })], false);
    series.lastSeen = 2;
    evaluator.take([event(1, { series, source: 'late' })], false);
    await evaluator.settled();
    expect(written('rule')).toEqual(['event-1', 'event-2']);
  });
});
