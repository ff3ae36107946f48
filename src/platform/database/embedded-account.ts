import { spawnSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { StartError } from './embedded-start-error.js';

/** Who runs PostgreSQL; empty means this process's own account. */
export interface Account {
  uid?: number;
  gid?: number;
}

/** What PostgreSQL's programs see of our environment: neither our secrets nor PG* variables; English messages. */
export const POSTGRES_ENV: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  LD_LIBRARY_PATH: process.env['LD_LIBRARY_PATH'],
  LC_ALL: 'C',
  TZ: 'UTC',
};

/**
 * PostgreSQL refuses to run as root, so root lends it an unprivileged account of the system; anybody else runs it as
 * themselves.
 * @throws StartError for root on a system without such an account
 */
export function serverAccount(): Account {
  if (process.getuid?.() !== 0) return {};
  for (const name of ['postgres', 'nobody']) {
    const uid = idOf('-u', name);
    const gid = idOf('-g', name);
    if (uid && gid !== undefined) return { uid, gid };
  }
  throw new StartError(
    'PostgreSQL does not run as root and this system has neither an account postgres nor nobody: ' +
      'start Nexus as another user, or set DATABASE_URL to a running server.',
  );
}

/** The topmost folder on the way to `dir` that the account cannot enter; undefined when the way is free. */
export function barrierTo(dir: string, account: Account): string | undefined {
  if (account.uid === undefined || canEnter(dir, account)) return undefined;
  const parent = path.dirname(dir);
  return parent === dir ? dir : (barrierTo(parent, account) ?? dir);
}

/**
 * Makes the folder where root keeps what the account cannot reach elsewhere.
 * @returns false when it cannot be made, or when somebody else could put things into it
 */
export function makeSystemFolder(folder: string): boolean {
  try {
    if (mkdirSync(folder, { recursive: true }) !== undefined) chmodSync(folder, 0o755);
    return isOurs(folder);
  } catch {
    return false;
  }
}

/** Whether this is a folder that no other user of this machine can have filled. */
export function isOurs(folder: string): boolean {
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return false;
  return (stat.uid === 0 || stat.uid === process.getuid?.()) && (stat.mode & 0o022) === 0;
}

/** Asked of the system rather than computed from modes, which know nothing of access lists. */
function canEnter(dir: string, account: Account): boolean {
  return spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', dir], { ...account, cwd: '/', stdio: 'ignore' }).status === 0;
}

function idOf(flag: '-u' | '-g', name: string): number | undefined {
  const { status, stdout } = spawnSync('id', [flag, name], { encoding: 'utf8' });
  return status === 0 ? Number(stdout) : undefined;
}
