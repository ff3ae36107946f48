import type { CommandEnvelope } from './protocol.js';

/** What a server that says no priority means. */
const NORMAL = 3;
const STEP_MS = 60_000;

/**
 * How urgent a command is: its priority, and one step more for each minute it has waited, so that even the lowest priority
 * runs in the end.
 * @param now milliseconds since the epoch by the server's clock
 */
export function urgencyOf({ priority = NORMAL, created_at }: CommandEnvelope, now: number): number {
  const waitedMs = created_at === undefined ? 0 : now - Date.parse(created_at);
  return priority + Math.max(0, Math.floor(waitedMs / STEP_MS));
}
