import { describe, expect, it } from 'vitest';
import { domains } from '../../src/domains.js';
import { systemActor, type Actor } from '../../src/platform/context/index.js';
import { defineEvent, EventCatalogue, EventsModule, payloadSchema } from '../../src/platform/events/index.js';
import { canonicalScope } from '../../src/security/access/scopes.js';

const catalogue = EventCatalogue.of(domains);
const reader = (...scopes: string[]): Actor => ({ ...systemActor, scopes: new Set(scopes) });

describe('the catalogue of events', () => {
  it('names a channel and a known scope for each event', () => {
    expect(catalogue.events.length).toBeGreaterThan(15);
    for (const { type } of catalogue.events) {
      const { channel, scope } = catalogue.accessTo(type);
      expect(channel, type).not.toBe('custom.events');
      expect(canonicalScope(scope), type).toBe(scope);
    }
  });

  it.each(['task.created', 'task.made_up', 'telemetry.alert.resolved', 'user.login', 'nexus.started'])(
    'keeps %s for the server',
    (type) => expect(catalogue.isReserved(type)).toBe(true),
  );

  it.each(['user.created', 'user.registered', 'orders.created', 'tasks.created', 'my_app.task.created'])(
    'leaves %s to callers',
    (type) => expect(catalogue.isReserved(type)).toBe(false),
  );

  it('keeps whatever is declared for the server, and takes nothing twice', () => {
    const Weather = defineEvent('weather.changed', { summary: 'It rains', schema: payloadSchema({}) });
    const weather = EventsModule.forFeature({ events: [Weather] });
    expect(EventCatalogue.of([weather]).isReserved('weather.changed')).toBe(true);
    expect(EventCatalogue.of([weather]).isReserved('weather.announced')).toBe(false);
    const again = EventsModule.forFeature({ events: [Weather] });
    expect(() => EventCatalogue.of([weather, again])).toThrow('weather.changed is declared twice');
    const family = { types: ['weather.*'], channel: 'a', scope: 'b' };
    const families = [family, family].map((one) => EventsModule.forFeature({ families: [one] }));
    expect(() => EventCatalogue.of(families)).toThrow('weather.* is declared twice');
  });

  it('goes by the most specific pattern', () => {
    expect(catalogue.accessTo('security.alert').channel).toBe('system.alerts');
    expect(catalogue.accessTo('security.scanned').channel).toBe('security.events');
    expect(catalogue.accessTo('ai.request_completed').channel).toBe('ai.requests');
    expect(catalogue.accessTo('ai.agent_offline').channel).toBe('agents.status');
    expect(catalogue.accessTo('orders.created')).toMatchObject({ channel: 'custom.events', scope: 'event:read' });
  });

  it('refuses names and whole families that may not be read, and lets broader patterns through', () => {
    const ask =
      (...patterns: string[]) =>
      (): void =>
        catalogue.assertMayRead(reader('event:read', 'task:read'), patterns, 'events');
    expect(ask('*', '*.created', 'task.*', 'orders.created')).not.toThrow();
    expect(ask('user.*')).toThrow('These events need the scope user:read');
    expect(ask('task.created', 'token.created', 'command.*')).toThrow('the scope security:read and command:read');
    expect(catalogue.readingScopes(reader('event:read', 'task:read', 'cache:read')).sort()).toEqual([
      'event:read',
      'task:read',
    ]);
  });
});
