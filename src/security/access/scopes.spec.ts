import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Actor, actorHas } from '../../platform/context/index.js';
import { BUILT_IN_ROLES, builtInScopes } from './built-in-roles.js';
import {
  ALL_SCOPES,
  canonicalScope,
  covers,
  credentialRights,
  formatGrant,
  grantable,
  grantsOf,
  intersectGrants,
  parseGrant,
  rightsOf,
} from './scopes.js';

const actorWith = (...scopes: string[]): Actor => ({
  id: 'user_x',
  type: 'user',
  name: 'x',
  credentialId: null,
  roles: [],
  ...rightsOf(grantsOf(scopes)),
});
const wildcards = ['*', ...new Set(ALL_SCOPES.flatMap((s) => [`${s.split(':')[0]}:*`, `*:${s.split(':')[1]}`]))];
const anyScope = fc.constantFrom(...ALL_SCOPES, ...wildcards);

describe('canonicalScope', () => {
  it('reads both spellings, plurals and wildcards', () => {
    const read: Record<string, string> = {
      'telemetry:read': 'telemetry:read',
      'read:plugins': 'plugin:read',
      'write:plugins': 'plugin:write',
      'events:emit': 'event:emit',
      'events:subscribe': 'event:subscribe',
      'read:system': 'system:read',
      'read:metrics': 'metrics:read',
      'write:cache': 'cache:write',
      'read:users': 'user:read',
      'admin:security': 'security:admin',
      'security:admin': 'security:admin',
      'admin:config': 'admin:config',
      'admin:system': 'admin:system',
      '*': '*',
      'plugin:*': 'plugin:*',
      'plugins:*': 'plugin:*',
      '*:read': '*:read',
      'admin:*': 'admin:*',
    };
    for (const [text, canonical] of Object.entries(read)) {
      expect([text, canonicalScope(text)]).toEqual([text, canonical]);
    }
  });

  it('knows nothing else', () => {
    for (const text of ['', ':', 'telemetry', 'telemetry:', 'telemetry:fly', '*:*:*', 'a:b', '__proto__:read', 'x:*']) {
      expect([text, canonicalScope(text)]).toEqual([text, null]);
    }
    fc.assert(fc.property(fc.string(), (text) => [null, text].includes(canonicalScope(text)) || text.includes(':')));
  });

  it('leaves every canonical scope as it is', () => {
    for (const scope of [...ALL_SCOPES, ...wildcards]) expect(canonicalScope(scope)).toBe(scope);
  });
});

describe('intersection', () => {
  it('allows exactly what both sides allow', () => {
    const list = fc.array(anyScope, { maxLength: 6 });
    fc.assert(
      fc.property(list, list, fc.constantFrom(...ALL_SCOPES), (left, right, scope) => {
        const both = { ...actorWith(), ...rightsOf(intersectGrants(grantsOf(left), grantsOf(right))) };
        expect(actorHas(both, scope)).toBe(actorHas(actorWith(...left), scope) && actorHas(actorWith(...right), scope));
      }),
    );
  });

  it('keeps the label limits of both sides', () => {
    const limited = (left: string, right: string): string[] =>
      intersectGrants(grantsOf([left]), grantsOf([right])).map(formatGrant);
    expect(limited('command:write@env=development', '*')).toEqual(['command:write@env=development']);
    expect(limited('command:*', 'command:write@env=development')).toEqual(['command:write@env=development']);
    expect(limited('command:write@env=development', 'command:write@site=a')).toEqual([
      'command:write@env=development,site=a',
    ]);
    expect(limited('command:write@env=development', 'command:write@env=production')).toEqual([]);
  });
});

describe('label limits', () => {
  it('exist only for scopes whose routes look at the labels of agents', () => {
    expect(parseGrant('write:commands@env=development')).toEqual({
      scope: 'command:write',
      labels: { env: 'development' },
    });
    for (const scope of ['ai:write', 'agent:admin']) {
      expect(parseGrant(`${scope}@env=x`)).toEqual({ scope, labels: { env: 'x' } });
    }
    for (const text of [
      'task:write@env=x',
      'ai:read@env=x',
      '*@env=x',
      'command:write@',
      'command:write@env',
      'command:write@=x',
    ]) {
      expect([text, parseGrant(text)]).toEqual([text, null]);
    }
  });

  it('bind an actor unless another right is free of them', () => {
    expect(rightsOf(grantsOf(['command:write@env=development'])).targetLabels).toEqual({ env: 'development' });
    for (const free of ['command:write', 'command:*', '*:write', '*']) {
      expect(rightsOf(grantsOf(['command:write@env=development', free])).targetLabels).toBeUndefined();
    }
    expect(rightsOf(grantsOf(['command:write@env=test', 'command:write@env=development'])).targetLabels).toEqual({
      env: 'development',
    });
  });
});

describe('label limits on agents', () => {
  const agentLabels = (...texts: string[]) => rightsOf(grantsOf(texts)).agentLabels;

  it('come from any limited scope, unless it is free of them by another right', () => {
    for (const scope of ['command:write', 'ai:write', 'agent:admin']) {
      expect(agentLabels(`${scope}@env=test`, 'telemetry:read')).toEqual({ env: 'test' });
      expect(agentLabels(`${scope}@env=test`, scope)).toBeUndefined();
      expect(agentLabels(`${scope}@env=test`, '*')).toBeUndefined();
    }
    expect(agentLabels('ai:write', 'command:write@env=test')).toEqual({ env: 'test' });
    expect(agentLabels('ai:write@site=a', 'command:write@env=test')).toEqual({ env: 'test', site: 'a' });
  });

  it('that contradict each other leave no agent', () => {
    expect(agentLabels('ai:write@env=test', 'agent:admin@env=live')).toEqual({ env: null });
  });

  it('of an owner limit every key, whichever scopes it was given', () => {
    const held = grantsOf(['ai:*', 'command:write@env=test']);
    expect(credentialRights(held, grantsOf(['ai:write'])).agentLabels).toEqual({ env: 'test' });
    expect(credentialRights(held, grantsOf(['ai:write@env=live'])).agentLabels).toEqual({ env: null });
    expect(credentialRights(grantsOf(['*']), grantsOf(['ai:write'])).agentLabels).toBeUndefined();
  });
});

describe('grantable', () => {
  it('never gives more than the giver has', () => {
    fc.assert(
      fc.property(
        fc.array(anyScope, { maxLength: 4 }),
        anyScope,
        fc.constantFrom(...ALL_SCOPES),
        (held, wanted, used) => {
          const granted = grantable(rightsOf(grantsOf(held)), { scope: wanted, labels: null });
          if (granted && actorHas(actorWith(formatGrant(granted)), used)) {
            expect(actorHas(actorWith(...held), used)).toBe(true);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('hands on the label limit of the giver', () => {
    const developer = rightsOf(grantsOf(builtInScopes(['developer'])));
    expect(grantable(developer, { scope: 'command:write', labels: null })).toEqual({
      scope: 'command:write',
      labels: { env: 'development' },
    });
    expect(grantable(developer, { scope: 'command:write', labels: { env: 'production' } })).toBeNull();
    expect(grantable(developer, { scope: '*', labels: null })).toBeNull();
    for (const scope of ['ai:write', 'agent:admin']) {
      expect(grantable(developer, { scope, labels: null })).toEqual({ scope, labels: { env: 'development' } });
      expect(grantable(developer, { scope, labels: { env: 'production' } })).toBeNull();
    }
    const keeper = rightsOf(grantsOf(['*:admin', 'admin:*', 'command:write@env=test']));
    for (const scope of ['*:admin', 'admin:*']) expect(grantable(keeper, { scope, labels: null })).toBeNull();
    const nowhere = rightsOf(grantsOf(['ai:write@env=test', 'agent:admin@env=live']));
    expect(grantable(nowhere, { scope: 'ai:write', labels: null })).toBeNull();
  });
});

describe('built-in roles', () => {
  it('hold known scopes only', () => {
    for (const { name, scopes } of BUILT_IN_ROLES) {
      for (const scope of scopes) {
        expect([name, scope, parseGrant(scope) && formatGrant(parseGrant(scope)!)]).toEqual([name, scope, scope]);
      }
    }
  });

  it('follow the table of default roles', () => {
    const allowed = (role: string): string[] => {
      const actor = actorWith(...builtInScopes([role]));
      return ALL_SCOPES.filter((scope) => actorHas(actor, scope));
    };
    expect(allowed('admin')).toEqual(ALL_SCOPES);
    expect(allowed('viewer').filter((scope) => !/:(read|subscribe)$/.test(scope))).toEqual([]);
    for (const role of ['developer', 'operator', 'viewer', 'agent']) {
      for (const scope of ALL_SCOPES.filter((s) => /admin|^user|^security|^config/.test(s))) {
        // Developers administer the agents of development.
        if (role === 'developer' && scope === 'agent:admin') continue;
        expect([role, scope, allowed(role).includes(scope)]).toEqual([role, scope, false]);
      }
    }
    expect(allowed('operator')).toEqual(expect.arrayContaining(['command:write', 'job:write', 'cache:write']));
    expect(allowed('operator')).not.toContain('task:write');
    expect(allowed('developer')).toEqual(expect.arrayContaining(['task:write', 'plugin:write', 'command:write']));
    expect(allowed('developer')).not.toContain('job:write');
    expect(builtInScopes(['developer'])).toContain('agent:admin@env=development');
    expect(allowed('agent')).toEqual(['ai:agent', 'command:read', 'event:emit', 'telemetry:read', 'telemetry:write']);
  });

  it('cover themselves', () => {
    expect(covers('admin:*', 'admin:system')).toBe(true);
    expect(actorHas(actorWith('admin:*'), 'security:admin')).toBe(true);
  });
});
