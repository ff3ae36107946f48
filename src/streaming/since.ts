import { StreamProblem } from './stream-problem.js';

/** Id of a telemetry event. */
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** `<seq>.<telemetry event id>`, as `Subscription.idOf` writes it. */
export const PLACES = /^(\d{1,18})\.([0-9a-f-]{36})$/i;

/** The id of the last event that a client has seen; null when it asks for no past events. @throws StreamProblem VALIDATION_ERROR */
export function sinceOf(since: unknown): string | null {
  if (since === undefined || since === null || since === '') return null;
  const text = typeof since === 'number' && Number.isSafeInteger(since) ? String(since) : since;
  if (typeof text !== 'string' || !(/^(\d{1,18}|(evt_)?[0-9a-f-]{36})$/i.test(text) || PLACES.test(text))) {
    throw new StreamProblem('VALIDATION_ERROR', 'since must be the id or seq of an event');
  }
  return text;
}
