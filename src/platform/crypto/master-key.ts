import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, statSync, unlinkSync, writeSync } from 'node:fs';
import path from 'node:path';
import { ConfigError, type Settings } from '../config/index.js';
import { makeFolder } from '../files/index.js';
import { deriveKey } from './derive.js';

export interface MasterKey {
  id: string;
  /** 32 bytes. */
  key: Buffer;
}

export interface MasterKeyOptions {
  /** Data folder; a generated key is kept there in the file `master-key`, outside the database and its backups. */
  home: string;
  /** `id:base64,id:base64`; wins over the file. The first key encrypts, the others still decrypt. */
  keysSetting?: string;
  /** Whether a missing key may be generated: not for processes that must share it with others. */
  allowGenerate: boolean;
}

const SETTING = 'NEXUS_MASTER_KEYS';
const KEY_BYTES = 32;
const ENTRY = /^([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/]{43}=|[A-Za-z0-9_-]{43})$/;

/**
 * The keys everything secret hangs on: from the setting, else from the file in the data folder, else newly generated there.
 * @throws ConfigError with one sentence that names the source and never a key
 */
export function loadMasterKeys({ home, keysSetting, allowGenerate }: MasterKeyOptions): MasterKey[] {
  if (keysSetting) return parseKeys(keysSetting.split(','), SETTING);
  const file = path.join(home, 'master-key');
  const known = readKeyFile(file);
  if (known) return known;
  if (!allowGenerate) {
    throw new ConfigError(`${SETTING}: required here (id:base64 of 32 random bytes), the same in every process`);
  }
  createKeyFile(file);
  return readKeyFile(file) ?? fail(file, 'disappeared while it was written');
}

/** Processes of one role share their keys with others, so only a process that does everything may make its own. */
export function masterKeysOf({ home, masterKeys, role }: Settings): MasterKey[] {
  return loadMasterKeys({ home, keysSetting: masterKeys, allowGenerate: role === 'all' });
}

/** The loaded master keys and what is derived from them. */
export class MasterKeys {
  constructor(readonly list: readonly MasterKey[]) {}

  /** One key per master key for a purpose, e.g. signing: the first is for making, all are for checking. */
  derived(purpose: string, bytes = KEY_BYTES): MasterKey[] {
    return this.list.map(({ id, key }) => ({ id, key: deriveKey(key, purpose, bytes) }));
  }
}

function parseKeys(entries: string[], source: string): MasterKey[] {
  const keys = entries
    .map((entry) => entry.trim())
    .filter(Boolean)
    .map((entry, index) => {
      const match = ENTRY.exec(entry) ?? fail(source, `entry ${index + 1} is not id:base64 of 32 bytes`);
      return { id: match[1], key: Buffer.from(match[2], 'base64') };
    });
  if (keys.length === 0) fail(source, 'holds no key');
  if (new Set(keys.map(({ id }) => id)).size < keys.length) fail(source, 'holds the same key id twice');
  return keys;
}

function readKeyFile(file: string): MasterKey[] | null {
  let text: string;
  try {
    if (process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0) {
      fail(file, 'can be read by other users; run chmod 600 on it');
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? null : fail(file, `cannot be read (${code})`);
  }
  return parseKeys(text.split(/[\n,]/), file);
}

/** Writes beside the target, then links: a crash leaves no half file, and of two processes the first one wins. */
function createKeyFile(file: string): void {
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    makeFolder(path.dirname(file), 0o700);
    const fd = openSync(draft, 'wx', 0o600);
    try {
      writeSync(fd, `k${randomBytes(4).toString('hex')}:${randomBytes(KEY_BYTES).toString('base64')}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    try {
      linkSync(draft, file);
      syncFolder(path.dirname(file));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      unlinkSync(draft);
    }
  } catch (error) {
    fail(file, `cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** Makes the new name itself survive a power cut: a lost key would make every stored secret unreadable. */
function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function fail(source: string, problem: string): never {
  throw new ConfigError(`${source}: ${problem}`);
}
