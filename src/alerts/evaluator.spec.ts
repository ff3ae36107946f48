import { expect, it } from 'vitest';
import { Logger, Metrics } from '../platform/observability/index.js';
import type { TelemetryIngest } from '../telemetry/index.js';
import type { AlertWriter } from './alert-writer.js';
import type { AlertSettings } from './alerts.settings.js';
import type { CompiledRule } from './compiled-rule.js';
import { Evaluator } from './evaluator.js';
import type { JudgedEvent } from './judged-event.js';
import { OpenGroups } from './open-groups.js';
import type { RuleSet } from './rule-set.js';

const RECEIVED_AT = Date.now();
const EVENT: JudgedEvent = {
  eventId: 'e',
  ts: RECEIVED_AT,
  receivedAt: RECEIVED_AT,
  eventType: 'system.metric',
  source: 'host',
  metric: null,
  data: '{}',
  series: null,
};

/** Takes an event that breaches a rule, while the database answers with `error`. @returns from when on events are evaluated again */
async function behindAfter(error: Error): Promise<number | null> {
  const rule = {
    id: 'rule',
    concernsCandidate: () => true,
    judgement: () => 'breach',
    groupKey: () => 'host',
    grouping: () => ({}),
  };
  const evaluator = new Evaluator(
    { isEmpty: false, candidates: () => [rule as unknown as CompiledRule] } as unknown as RuleSet,
    new OpenGroups(null as never, null as never),
    { apply: () => Promise.reject(error) } as unknown as AlertWriter,
    { maxGroups: 10 } as AlertSettings,
    new Logger('silent'),
    { onFlushed: () => undefined } as unknown as TelemetryIngest,
    new Metrics(),
  );
  evaluator.take([EVENT], false);
  await evaluator.settled();
  return evaluator.behindSince;
}

const failed = (code: string): Error => Object.assign(new Error('failed'), { code });

it.each(['25006', '58030', '53100', '57P01', '40P01', 'ECONNRESET'])(
  'events are evaluated again when the database has failed with %s meanwhile',
  async (code) => {
    expect(await behindAfter(failed(code))).toBe(RECEIVED_AT);
  },
);

it('events that cannot be evaluated at all are left out', async () => {
  expect(await behindAfter(failed('22003'))).toBeNull();
});
