import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError } from '../config/index.js';
import { loadMasterKeys, MasterKeys } from './master-key.js';

const base64 = (): string => randomBytes(32).toString('base64');
let home: string;
beforeEach(() => void (home = mkdtempSync(path.join(tmpdir(), 'nexus-keys-'))));
afterEach(() => rmSync(home, { recursive: true, force: true }));

describe('loadMasterKeys', () => {
  it('generates a key once, in a private file of its own', () => {
    const folder = path.join(home, 'data');
    const [made] = loadMasterKeys({ home: folder, allowGenerate: true });
    expect(made.key).toHaveLength(32);
    expect(statSync(path.join(folder, 'master-key')).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['master-key']);
    expect(loadMasterKeys({ home: folder, allowGenerate: true })).toEqual([made]);
    expect(loadMasterKeys({ home: folder, allowGenerate: false })).toEqual([made]);
  });

  it('takes several keys in order from the setting and leaves the file alone', () => {
    const [a, b] = [base64(), base64()];
    const keys = loadMasterKeys({ home, keysSetting: ` new:${a}, old:${b} `, allowGenerate: true });
    expect(keys.map(({ id, key }) => `${id}:${key.toString('base64')}`)).toEqual([`new:${a}`, `old:${b}`]);
    expect(readdirSync(home)).toEqual([]);
  });

  it('reads several keys from the file, one per line', () => {
    writeFileSync(path.join(home, 'master-key'), `new:${base64()}\nold:${base64()}\n`, { mode: 0o600 });
    expect(loadMasterKeys({ home, allowGenerate: false }).map(({ id }) => id)).toEqual(['new', 'old']);
  });

  it('refuses bad keys with a sentence that holds no key', () => {
    const good = base64();
    const bad = [
      'x',
      `:${good}`,
      `a:${randomBytes(16).toString('base64')}`,
      `a:${good},a:${good}`,
      `a:${good},b`,
      `a.b:${good}`,
      ', ,',
    ];
    for (const keysSetting of bad) {
      const load = (): unknown => loadMasterKeys({ home, keysSetting, allowGenerate: true });
      expect(load).toThrow(ConfigError);
      expect(load).toThrow(/^NEXUS_MASTER_KEYS: (?!.*[A-Za-z0-9+/]{20})/);
    }
  });

  it('refuses a missing key where none may be made, a broken file and one that others can read', () => {
    expect(() => loadMasterKeys({ home, allowGenerate: false })).toThrow(/NEXUS_MASTER_KEYS: required/);
    const file = path.join(home, 'master-key');
    writeFileSync(file, 'garbage', { mode: 0o600 });
    expect(() => loadMasterKeys({ home, allowGenerate: true })).toThrow(/entry 1 is not/);
    expect(readFileSync(file, 'utf8')).toBe('garbage');
    chmodSync(file, 0o644);
    expect(() => loadMasterKeys({ home, allowGenerate: true })).toThrow(/chmod 600/);
    expect(() => loadMasterKeys({ home: file, allowGenerate: true })).toThrow(ConfigError);
  });
});

describe('MasterKeys', () => {
  it('derives one key per master key, in order', () => {
    const keys = new MasterKeys([
      { id: 'new', key: randomBytes(32) },
      { id: 'old', key: randomBytes(32) },
    ]);
    const derived = keys.derived('jwt');
    expect(derived.map(({ id }) => id)).toEqual(['new', 'old']);
    expect(derived[0].key).not.toEqual(keys.list[0].key);
    expect(keys.derived('jwt')).toEqual(derived);
  });
});
