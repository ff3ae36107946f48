import { generateKeyPairSync, type KeyObject, randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify, SignJWT, decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, loadSettings, type LoadedSettings, Settings } from '../../platform/config/index.js';
import { MasterKeys } from '../../platform/crypto/index.js';
import { Logger } from '../../platform/observability/index.js';
import { SecuritySettings } from '../security.settings.js';
import { AccessTokens } from './access-tokens.js';

const load = (env: NodeJS.ProcessEnv): LoadedSettings => loadSettings(env, [Settings, SecuritySettings]);
const tokensOf = (settings: LoadedSettings, keys: MasterKeys): AccessTokens =>
  new AccessTokens(settings.get(SecuritySettings), settings.get(Settings), keys, new Logger('silent'));

const [OLD, NEW] = ['the-secret-that-was-used-until-yesterday', 'the-secret-that-is-used-from-today-on'];
const [user, session] = [randomUUID(), randomUUID()];
const master = new MasterKeys([{ id: 'a', key: randomBytes(32) }]);
const tokensWith = (secret: string, keys = master): AccessTokens => tokensOf(load({ NEXUS_JWT_SECRET: secret }), keys);
const issue = (tokens: AccessTokens): Promise<string> => tokens.issue(user, session, ['viewer'], ['telemetry:read']);

describe('the secrets of access tokens', () => {
  it('are replaced without ending the tokens that live', async () => {
    const both = tokensWith(`${NEW}, ${OLD}`);
    const old = await issue(tokensWith(OLD));
    expect(await both.verify(old)).toMatchObject({ userId: user, sessionId: session });
    const fresh = await issue(both);
    expect(decodeProtectedHeader(fresh).kid).not.toBe(decodeProtectedHeader(old).kid);
    expect(await tokensWith(NEW).verify(fresh)).toMatchObject({ userId: user });
    await expect(tokensWith(NEW).verify(old)).rejects.toMatchObject({ type: 'TOKEN_INVALID' });
  });

  it('come from the master keys when none is set', async () => {
    const token = await issue(tokensWith(''));
    expect(await tokensWith('').verify(token)).toMatchObject({ userId: user });
    const others = new MasterKeys([{ id: 'a', key: randomBytes(32) }]);
    await expect(tokensWith('', others).verify(token)).rejects.toMatchObject({ type: 'TOKEN_INVALID' });
  });

  it('of all master keys are good, whichever is the first', async () => {
    const [a, b] = ['a', 'b'].map((id) => ({ id, key: randomBytes(32) }));
    const [olderFirst, newerFirst] = [new MasterKeys([a, b]), new MasterKeys([b, a])].map((keys) =>
      tokensWith('', keys),
    );
    for (const [signs, checks] of [
      [olderFirst, newerFirst],
      [newerFirst, olderFirst],
      [tokensWith('', new MasterKeys([a])), newerFirst],
      [newerFirst, tokensWith('', new MasterKeys([b]))],
    ]) {
      expect(await checks.verify(await issue(signs))).toMatchObject({ userId: user });
    }
  });

  it('must have 32 bytes, or the start names the setting and not the secret', () => {
    for (const secret of ['too-short', `${NEW},too-short`]) {
      const loading = (): unknown => load({ NEXUS_JWT_SECRET: secret });
      expect(loading).toThrow(ConfigError);
      expect(loading).toThrow(/^(?!.*too-short)[^]*NEXUS_JWT_SECRET/);
    }
  });
});

describe('private keys of access tokens', () => {
  let folder: string;
  const files: Record<string, string> = {};
  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'nexus-jwt-'));
    const write = (name: string, pem: string | Buffer): void => {
      files[name] = path.join(folder, name);
      writeFileSync(files[name], pem);
    };
    const secret = (key: KeyObject): string | Buffer => key.export({ type: 'pkcs8', format: 'pem' });
    write('ed', secret(generateKeyPairSync('ed25519').privateKey));
    write('ed2', secret(generateKeyPairSync('ed25519').privateKey));
    write('rsa', secret(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey));
    write('weak', secret(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey));
    write('public', generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const keyed = (...names: string[]): AccessTokens =>
    tokensOf(load({ NEXUS_JWT_KEY_FILES: names.map((name) => files[name] ?? name).join() }), master);

  it('sign tokens that others check with the published key', async () => {
    for (const [name, alg] of [
      ['ed', 'EdDSA'],
      ['rsa', 'RS256'],
    ]) {
      const tokens = keyed(name);
      const token = await issue(tokens);
      expect(decodeProtectedHeader(token).alg).toBe(alg);
      const keySet = createLocalJWKSet({ keys: [...tokens.published] });
      expect((await jwtVerify(token, keySet, { audience: 'nexus-api' })).payload.sub).toBe(`user_${user}`);
      expect(await tokens.verify(token)).toMatchObject({ userId: user });
      expect(Object.keys(tokens.published[0])).not.toContain('d');
    }
    expect(tokensWith(NEW).published).toEqual([]);
  });

  it('are replaced without ending the tokens that live', async () => {
    const old = await issue(keyed('ed'));
    expect(await keyed('ed2', 'ed').verify(old)).toMatchObject({ userId: user });
    await expect(keyed('ed2').verify(old)).rejects.toMatchObject({ type: 'TOKEN_INVALID' });
  });

  it('leave no way in for a token signed with the public key as a secret', async () => {
    const tokens = keyed('rsa');
    const token = await issue(tokens);
    const { kid } = decodeProtectedHeader(token);
    for (const secret of [JSON.stringify(tokens.published[0]), String(tokens.published[0].n)]) {
      const forged = await new SignJWT(decodeJwt(token))
        .setProtectedHeader({ alg: 'HS256', typ: 'at+jwt', kid })
        .sign(Buffer.from(secret));
      await expect(tokens.verify(forged)).rejects.toMatchObject({ type: 'TOKEN_INVALID' });
    }
  });

  it('stop the start when they are weak, mixed, missing or no private keys', () => {
    for (const names of [['weak'], ['public'], ['/nowhere/key.pem'], ['ed', 'rsa']]) {
      expect(() => keyed(...names)).toThrow(ConfigError);
      expect(() => keyed(...names)).toThrow(/NEXUS_JWT_KEY_FILES/);
    }
    const both = load({ NEXUS_JWT_KEY_FILES: files.ed, NEXUS_JWT_SECRET: NEW });
    expect(() => tokensOf(both, master)).toThrow(/not together/);
  });
});
