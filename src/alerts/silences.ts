import { LessThanOrEqual, MoreThan } from 'typeorm';
import type { Tx } from '../platform/database/index.js';
import { publicId } from '../platform/ids/index.js';
import type { Alert } from './alert.entity.js';
import { AlertSilence } from './alert-silence.entity.js';
import type { Matchers } from './silence-matchers.js';
import { wildcards } from './wildcards.js';

/** What of an alert a silence looks at. */
export type Silenceable = Pick<Alert, 'ruleId' | 'severity' | 'source' | 'tags'>;

/** The silences in force now. */
export async function silencesInForce(tx: Tx): Promise<(alert: Silenceable) => boolean> {
  const now = new Date();
  const rows = await tx.findBy(AlertSilence, { startsAt: LessThanOrEqual(now), endsAt: MoreThan(now) });
  const silences = rows.map(({ matchers }) => silencerOf(matchers));
  return (alert) => silences.some((silences) => silences(alert));
}

function silencerOf(matchers: Matchers): (alert: Silenceable) => boolean {
  const { rule_ids: rules, severities, sources, tags } = matchers;
  const fromSource = wildcards(sources ?? []);
  return (alert) => {
    if (rules && !rules.includes(publicId('rule', alert.ruleId))) return false;
    if (severities && !severities.includes(alert.severity)) return false;
    if (sources && (alert.source === null || !fromSource(alert.source))) return false;
    return Object.entries(tags ?? {}).every(([name, value]) => alert.tags[name] === value);
  };
}
