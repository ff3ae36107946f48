import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { makeFolder } from '../files/index.js';
import { type Account, barrierTo, makeSystemFolder, POSTGRES_ENV, serverAccount } from './embedded-account.js';
import type { Binaries } from './embedded-binaries.js';
import { notWritable } from './embedded-lock.js';
import { readText } from './embedded-process.js';
import { reasonOf, StartError } from './embedded-start-error.js';

/** Where the database lives and who runs it. */
export interface DataFolder {
  dir: string;
  account: Account;
  /** Version that made the data; undefined while there are none. */
  major?: number;
}

/** Makes the data folder of Nexus. @returns its real path */
export function makeHome(home: string): string {
  try {
    // 0711: the account of the server crosses it to its own folder; secrets in it have their own modes.
    if (makeFolder(home, 0o711)) chmodSync(home, 0o711);
    return realpathSync(home);
  } catch (error) {
    throw notWritable(home, error);
  }
}

/**
 * Decides where the database lies. Normally `home/pg`. When root has the clone below a folder that the account of the
 * server cannot enter (0700), the database lies under `systemFolder` and `home/pg-location` names it from then on; the
 * folders on the way keep their modes.
 * @throws StartError when the folder is unusable for the account
 */
export function chooseDataFolder(home: string, systemFolder: string, log: (line: string) => void): DataFolder {
  const pointer = path.join(home, 'pg-location');
  const pointed = readText(pointer)?.trim();
  if (pointed && !existsSync(path.dirname(pointed))) {
    throw new StartError(
      `The database folder ${pointed} (named in ${pointer}) is missing: bring it back, or remove that file to start with an empty database.`,
    );
  }
  const dir = pointed ?? path.join(home, 'pg');
  const existing = inspect(dir);
  const account = existing?.account ?? serverAccount();
  const barrier = barrierTo(path.dirname(dir), account);
  if (barrier === undefined) {
    if (pointed) log(`The database is in ${dir}`);
    return { dir, account, major: existing?.major };
  }
  if (existing || pointed) throw unreachable(dir, barrier);
  const outside = makeOutsideFolder(home, systemFolder, account);
  if (outside === undefined) throw unreachable(dir, barrier);
  writeFileSync(pointer, `${outside}\n`, { mode: 0o644, flush: true });
  log(`The account of the database cannot enter ${barrier}: the database is in ${outside}`);
  return { dir: outside, account };
}

/**
 * The password of the database, made at the first start and kept in `home/pg-password` (0600).
 * @throws StartError when there are data but no password
 */
export function databasePassword(home: string, { dir, major }: DataFolder): string {
  const file = path.join(home, 'pg-password');
  const kept = readText(file)?.trim();
  if (kept) return kept;
  if (major !== undefined) {
    throw new StartError(
      `The password file ${file} of the database in ${dir} is missing: bring it back, or move that folder away to start with an empty database.`,
    );
  }
  const password = randomBytes(24).toString('base64url');
  const draft = `${file}.tmp`;
  try {
    writeFileSync(draft, `${password}\n`, { mode: 0o600, flush: true });
    renameSync(draft, file);
  } catch (error) {
    throw notWritable(home, error);
  }
  return password;
}

/**
 * Makes an empty database in the folder. It is built beside it and moved into place when complete, so a kill in the
 * middle never leaves a half-made one that a later start trusts.
 */
export async function initialise({ dir, account }: DataFolder, binaries: Binaries, password: string): Promise<void> {
  const parent = path.dirname(dir);
  const workshop = mkdtempSync(path.join(parent, 'pg.tmp-'));
  const data = path.join(workshop, 'pg');
  const passwordFile = path.join(workshop, 'password');
  try {
    writeFileSync(passwordFile, password, { mode: 0o600 });
    for (const made of [passwordFile, workshop]) give(made, account);
    const args = ['-D', data, '-U', 'postgres', '--auth=scram-sha-256', `--pwfile=${passwordFile}`];
    args.push('--encoding=UTF8', '--locale=C', '--data-checksums', '--no-instructions');
    const options = { ...account, cwd: '/', env: POSTGRES_ENV };
    await promisify(execFile)(path.join(binaries.dir, 'initdb'), args, options);
    renameSync(data, dir);
    syncFolder(parent);
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim().split('\n').slice(-2).join(' ');
    throw new StartError(`The database could not be made in ${dir}: ${said || reasonOf(error)}`);
  } finally {
    rmSync(workshop, { recursive: true, force: true });
  }
}

/** Removes what starts that were killed have left half-made. */
export function sweep({ dir }: DataFolder): void {
  const parent = path.dirname(dir);
  for (const name of readdirSync(parent)) {
    if (!name.startsWith('pg.tmp-')) continue;
    try {
      rmSync(path.join(parent, name), { recursive: true, force: true });
    } catch {
      // An initdb that outlived its Nexus still writes there; a later start removes it.
    }
  }
}

/** Looks at what is there; undefined when there is nothing yet. The owner of the data is the one who must run them. */
function inspect(dir: string): { account: Account; major: number } | undefined {
  const stat = statSync(dir, { throwIfNoEntry: false });
  if (!stat) return undefined;
  const self = process.getuid?.() ?? 0;
  if (self !== 0 && stat.uid !== self) {
    throw new StartError(
      `The database folder ${dir} belongs to another account (uid ${stat.uid}): start Nexus as that account or as root, or set NEXUS_HOME to another folder.`,
    );
  }
  const version = readText(path.join(dir, 'PG_VERSION'));
  if (version === undefined) {
    if (readdirSync(dir).length === 0) return undefined;
    throw new StartError(
      `The folder ${dir} holds files but no database: move it away, or set NEXUS_HOME to another folder.`,
    );
  }
  const borrowed = self === 0 && stat.uid !== 0 ? { uid: stat.uid, gid: stat.gid } : serverAccount();
  return { account: borrowed, major: Number.parseInt(version, 10) };
}

/** A copied or restored folder may have come with the wrong owner or mode, which PostgreSQL would refuse. */
export function checkOwner({ dir, account }: DataFolder): void {
  const { uid, mode } = statSync(dir);
  if (account.uid !== undefined && uid !== account.uid) {
    throw new StartError(
      `The database folder ${dir} belongs to root, as whom PostgreSQL does not run: chown -R ${account.uid}:${account.gid} it.`,
    );
  }
  if ((mode & 0o077) !== 0) chmodSync(dir, 0o700);
}

function unreachable(dir: string, barrier: string): StartError {
  return new StartError(
    `The account of the database cannot enter ${barrier}, and so not ${dir}: set NEXUS_HOME to a folder outside ${barrier}.`,
  );
}

/** A new folder for the database of this home. The name is never used twice: a home that was removed starts empty. */
function makeOutsideFolder(home: string, systemFolder: string, account: Account): string | undefined {
  if (!makeSystemFolder(systemFolder) || barrierTo(systemFolder, account) !== undefined) return undefined;
  const name = createHash('sha256').update(home).digest('hex').slice(0, 12);
  try {
    const folder = mkdtempSync(path.join(systemFolder, `${name}-`));
    chmodSync(folder, 0o755);
    return path.join(folder, 'pg');
  } catch {
    return undefined;
  }
}

function give(file: string, { uid, gid }: Account): void {
  if (uid !== undefined && gid !== undefined) chownSync(file, uid, gid);
}

/** A rename is on disk only when its folder is. */
function syncFolder(folder: string): void {
  if (process.platform === 'win32') return;
  const fd = openSync(folder, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
