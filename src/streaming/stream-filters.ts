import { isAppError } from '../platform/errors/index.js';
import { type Filter, filterOf } from '../platform/events/index.js';
import { nearestNames } from '../platform/http/index.js';
import type { Channels } from './channels.js';
import { StreamProblem } from './stream-problem.js';

/** The filter of each channel. @throws StreamProblem */
export function filtersBy(known: Channels, filters: unknown, channels: readonly string[]): Map<string, Filter | null> {
  try {
    const byChannel = new Map(
      channels.map((channel) => [channel, filterOf(filters, (field) => known.mayHave(channel, field))]),
    );
    for (const field of Object.keys(filters ?? {})) assertKnown(known, field, channels);
    return byChannel;
  } catch (error) {
    throw isAppError(error) ? new StreamProblem('VALIDATION_ERROR', error.message) : error;
  }
}

/** Refuses unknown fields: a misspelt filter would otherwise be ignored, and everything would be sent. */
function assertKnown(all: Channels, field: string, channels: readonly string[]): void {
  const names = all.knownFields();
  const known = ['source', 'priority', 'correlation_id', 'tag', ...names];
  const name = field.replace(/^data\./, '').split('.')[0];
  if (known.includes(name) || channels.some((channel) => all.mayHave(channel, field))) return;
  const text = `No event of these channels has the field ${field.slice(0, 50)}; there are ${nearestNames(name, names)}`;
  throw new StreamProblem('VALIDATION_ERROR', text);
}

/** Warns of channels that have no events yet, and of filters that do not apply to a channel. */
export function warningsOf(known: Channels, channels: readonly string[], filters: unknown): { warnings?: string[] } {
  const fields = Object.keys(filters ?? {});
  const warnings = channels.flatMap((channel) => {
    if (known.isSilent(channel)) return [`${channel} has no events yet`];
    const ignored = fields.filter((field) => !known.mayHave(channel, field));
    return ignored.length > 0 ? [`Events of ${channel} have no ${ignored.join(', ')}: not filtered by it`] : [];
  });
  return warnings.length > 0 ? { warnings } : {};
}
