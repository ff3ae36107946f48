import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { AgentError, reasonOf } from './agent-error.js';

/**
 * The agent's folder, held by one process at a time. A lock that a killed agent left is taken over.
 * @throws AgentError when it cannot be written or another agent holds it
 */
export class Home {
  private readonly lock: string;

  constructor(readonly folder: string) {
    this.lock = path.join(folder, 'lock');
    const trial = `${this.lock}.${process.pid}`;
    try {
      makeFolder(folder);
      writeFileSync(trial, JSON.stringify({ pid: process.pid, started: processStart(process.pid) }), { mode: 0o600 });
    } catch (error) {
      throw new AgentError(`The agent's home ${folder} cannot be written (${reasonOf(error)})`);
    }
    try {
      this.take(trial);
    } finally {
      rmSync(trial, { force: true });
    }
  }

  file(name: string): string {
    return path.join(this.folder, name);
  }

  release(): void {
    rmSync(this.lock, { force: true });
  }

  /** A hard link appears whole or not at all, and never replaces another. */
  private take(trial: string): void {
    for (let attempt = 0; attempt < 5; attempt++) {
      try {
        linkSync(trial, this.lock);
        return;
      } catch (error) {
        if (reasonOf(error) !== 'EEXIST') throw new AgentError(`${this.lock} cannot be created (${reasonOf(error)})`);
      }
      const found = readLock(this.lock);
      const holder = found && holderOf(found);
      if (holder && isAlive(holder)) {
        throw new AgentError(`Another agent (process ${holder.pid}) already runs on ${this.folder}`);
      }
      if (found !== null) this.putAside(found);
    }
    throw new AgentError(`Another agent is starting on ${this.folder}`);
  }

  /** Removes the lock if it still is the stale one: another agent may have taken it over in between. */
  private putAside(stale: string): void {
    const aside = `${this.lock}.stale.${process.pid}`;
    try {
      renameSync(this.lock, aside);
      if (readLock(aside) !== stale) linkSync(aside, this.lock);
    } catch {
      // Somebody else was faster; the next attempt sees what there is now.
    } finally {
      rmSync(aside, { force: true });
    }
  }
}

/** Node's own recursive `mkdirSync` never returns below a folder such as `/proc`, in which nobody can make one. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, 0o700);
  } catch (error) {
    if (reasonOf(error) === 'EEXIST') return;
    const parent = path.dirname(folder);
    if (reasonOf(error) !== 'ENOENT' || existsSync(parent)) throw error;
    makeFolder(parent);
    makeFolder(folder);
  }
}

interface Holder {
  pid: number;
  started: string | null;
}

function readLock(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

function holderOf(lock: string): Holder | null {
  try {
    const holder = JSON.parse(lock) as Holder;
    return Number.isInteger(holder.pid) ? holder : null;
  } catch {
    return null;
  }
}

function isAlive({ pid, started }: Holder): boolean {
  const now = processStart(pid);
  if (started !== null && now !== null) return started === now;
  if (process.platform === 'linux') return false;
  try {
    process.kill(pid, 0);
    return pid !== process.pid;
  } catch (error) {
    return reasonOf(error) === 'EPERM';
  }
}

/**
 * When a process started, in clock ticks since the boot, with the boot's id: tells a process from a later one with the same
 * number. Null when there is no such process, and where there is no /proc.
 */
export function processStart(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything; the 20th field after it is the start time.
    return `${bootId()}:${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
  } catch {
    return null;
  }
}

let boot: string | undefined;

function bootId(): string {
  return (boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
}

/** Replaces a file at once and for good: after a crash it holds the old text or the new one. Mode 0600. */
export function writeDurably(file: string, text: string): void {
  const fresh = `${file}.new`;
  const fd = openSync(fresh, 'w', 0o600);
  try {
    writeFileSync(fd, text);
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(fresh, file);
  syncFolder(path.dirname(file));
}

/** Makes names that were created or replaced in a folder durable. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
