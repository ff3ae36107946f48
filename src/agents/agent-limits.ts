import { type Actor, actorHas } from '../platform/context/index.js';
import { AppError } from '../platform/errors/index.js';
import type { AgentChanges } from './agent.js';
import type { Agent } from './agent.entity.js';

/** Labels that may decide what an agent is sent and who may change it: what an agent says of itself does not, unless listed. */
export function trustedLabels(
  { allLabels, labels }: Pick<Agent, 'allLabels' | 'labels'>,
  selfReported: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(allLabels).filter(([name]) => Object.hasOwn(labels, name) || selfReported.includes(name)),
  );
}

/** @throws AppError `forbidden` when the actor is limited to agents with other labels */
export function assertWithin({ agentLabels = {} }: Actor, labels: Readonly<Record<string, string>>): void {
  if (Object.entries(agentLabels).every(([name, value]) => labels[name] === value)) return;
  throw outside(agentLabels);
}

/**
 * The labels of what a limited actor adds: its own are added to those given.
 * @throws AppError `forbidden` when they contradict each other
 */
export function labelsWithin(
  { agentLabels = {} }: Actor,
  given: Readonly<Record<string, string>>,
): Record<string, string> {
  const labels = { ...given };
  for (const [name, value] of Object.entries(agentLabels)) {
    if (value === null || (labels[name] ?? value) !== value) throw outside(agentLabels);
    labels[name] = value;
  }
  return labels;
}

/** @throws AppError `forbidden` naming the scope that a change needs */
export function assertMayChange(actor: Actor, { labels, endpoint, ...others }: AgentChanges): void {
  const needed = [
    ...(labels !== undefined || endpoint !== undefined ? ['agent:admin'] : []),
    ...(Object.values(others).some((value) => value !== undefined) ? ['ai:write'] : []),
  ];
  const missing = needed.filter((scope) => !actorHas(actor, scope));
  if (missing.length === 0) return;
  throw AppError.forbidden(`This change needs the scope ${missing.join(' and ')}`, { required_scopes: missing });
}

function outside(agentLabels: Readonly<Record<string, string | null>>): AppError {
  const words = Object.entries(agentLabels).map(([name, value]) => `${name}=${value ?? ''}`);
  return AppError.forbidden(`You may act only on agents labelled ${words.join(', ')}`, {
    required_labels: agentLabels,
  });
}
