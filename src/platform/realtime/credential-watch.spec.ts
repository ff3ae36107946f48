import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Actor } from '../context/index.js';
import { AppError } from '../errors/index.js';
import { Gatekeeper } from '../http/index.js';
import { CredentialWatch } from './credential-watch.js';

const KEY: Actor = {
  id: 'user_1',
  type: 'key',
  name: 'test',
  credentialId: 'key_1',
  roles: [],
  scopes: new Set(['telemetry:read', 'command:read']),
};

class FakeGatekeeper extends Gatekeeper {
  answer: () => Actor = () => KEY;
  asked = 0;
  revoke: (revoked: { actorId?: string; credentialId?: string }) => void = () => undefined;

  override async authenticate(): Promise<Actor> {
    this.asked++;
    return Promise.resolve().then(() => this.answer());
  }

  override onRevoked(listener: typeof this.revoke): () => void {
    this.revoke = listener;
    return () => undefined;
  }

  override rightsNow(): Promise<Pick<Actor, 'scopes'>> {
    return Promise.reject(new Error('nobody asks for it here'));
  }
}

let gatekeeper: FakeGatekeeper;
let watch: CredentialWatch;
let ended: string[];

beforeEach(() => {
  vi.useFakeTimers();
  gatekeeper = new FakeGatekeeper();
  watch = new CredentialWatch(gatekeeper);
  ended = [];
});
afterEach(() => {
  watch.onModuleDestroy();
  vi.useRealTimers();
});

const watched = (actor: Actor = KEY): (() => void) =>
  watch.watch({ actor, headers: {}, ip: '' }, (reason) => ended.push(reason));

describe('a watched credential', () => {
  it('is looked up every minute, and ends what it opened when its scopes have changed', async () => {
    watched();
    await vi.advanceTimersByTimeAsync(185_000);
    expect([gatekeeper.asked, ended]).toEqual([3, []]);
    gatekeeper.answer = () => ({ ...KEY, scopes: new Set(['telemetry:read']) });
    await vi.advanceTimersByTimeAsync(61_000);
    expect(ended).toEqual(['The scopes of the credential have changed']);
    await vi.advanceTimersByTimeAsync(300_000);
    expect([gatekeeper.asked, ended.length]).toEqual([4, 1]);
  });

  it('ends it when it is not valid any more, and not when that cannot be found out', async () => {
    watched();
    gatekeeper.answer = () => {
      throw AppError.unavailable('no database');
    };
    await vi.advanceTimersByTimeAsync(62_000);
    expect([gatekeeper.asked, ended]).toEqual([1, []]);
    gatekeeper.answer = () => {
      throw AppError.unauthenticated('TOKEN_INVALID', 'gone');
    };
    await vi.advanceTimersByTimeAsync(7000);
    expect(ended).toEqual(['The credential is no longer valid']);
  });

  it('ends it within two seconds of its time, without being used', async () => {
    watched({ ...KEY, expiresAt: Date.now() + 5000 });
    await vi.advanceTimersByTimeAsync(4900);
    expect(ended).toEqual([]);
    await vi.advanceTimersByTimeAsync(2000);
    expect([gatekeeper.asked, ended]).toEqual([0, ['The credential has expired']]);
  });

  it('of a login goes on when the login was prolonged', async () => {
    const login: Actor = { ...KEY, type: 'user', expiresAt: Date.now() + 5000 };
    gatekeeper.answer = () => ({ ...login, expiresAt: Date.now() + 10_000 });
    watched(login);
    await vi.advanceTimersByTimeAsync(7000);
    expect([gatekeeper.asked, ended]).toEqual([1, []]);
    gatekeeper.answer = () => {
      throw AppError.unauthenticated('TOKEN_EXPIRED', 'over');
    };
    await vi.advanceTimersByTimeAsync(10_000);
    expect(ended).toEqual(['The credential is no longer valid']);
  });

  it('ends it at once when it is revoked, and is looked up when messages may have been lost', async () => {
    watched();
    gatekeeper.revoke({ credentialId: 'key_2' });
    gatekeeper.revoke({ actorId: 'user_2' });
    expect(ended).toEqual([]);
    gatekeeper.revoke({});
    await vi.advanceTimersByTimeAsync(1000);
    expect([gatekeeper.asked, ended]).toEqual([1, []]);
    gatekeeper.revoke({ credentialId: 'key_1' });
    expect(ended).toEqual(['The credential was revoked']);
  });

  it('is forgotten when what it opened has ended', async () => {
    const unwatch = watched();
    unwatch();
    gatekeeper.revoke({ actorId: 'user_1' });
    await vi.advanceTimersByTimeAsync(120_000);
    expect([gatekeeper.asked, ended]).toEqual([0, []]);
  });
});
