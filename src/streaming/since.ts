import { StreamProblem } from './stream-problem.js';

/** Id of a telemetry event. */
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** The place in the order of events and the one in telemetry, as `Subscription.idOf` writes them. */
export const PLACES = /^(\d{1,18})\.([0-9a-f-]{36})$/i;

/** What a client has seen last; null when it asks for nothing that is past. @throws StreamProblem VALIDATION_ERROR */
export function sinceOf(since: unknown): string | null {
  if (since === undefined || since === null || since === '') return null;
  const text = typeof since === 'number' && Number.isSafeInteger(since) ? String(since) : since;
  if (typeof text !== 'string' || !(/^(\d{1,18}|(evt_)?[0-9a-f-]{36})$/i.test(text) || PLACES.test(text))) {
    throw new StreamProblem('VALIDATION_ERROR', 'since must be the id or seq of an event');
  }
  return text;
}
