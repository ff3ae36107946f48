import { describe, expect, it } from 'vitest';
import { defineEvent, payloadSchema } from '../platform/events/index.js';
import { isReserved } from './reserved-events.js';

describe('names of the server’s own events', () => {
  it.each(['task.created', 'task.made_up', 'telemetry.alert.resolved', 'user.login'])('%s is one', (type) =>
    expect(isReserved(type)).toBe(true),
  );

  it.each(['user.created', 'user.registered', 'orders.created', 'tasks.created', 'my_app.task.created'])(
    '%s is none',
    (type) => expect(isReserved(type)).toBe(false),
  );

  it('are all that are declared, whatever they begin with', () => {
    defineEvent('weather.changed', { summary: 'It rains', schema: payloadSchema({}) });
    expect(isReserved('weather.changed')).toBe(true);
    expect(isReserved('weather.announced')).toBe(false);
  });
});
