import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** Whether a process exists and runs; a dead one that its parent has not yet collected counts as gone. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it exists but belongs to another account.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  const state = statFields(pid)?.[0];
  return state !== 'Z' && state !== 'X';
}

/** Tells a process from a later one with the same id. Empty where the system does not say (outside Linux). */
export function processStamp(pid: number): string {
  const ticks = statFields(pid)?.[19];
  return ticks === undefined ? '' : `${readText('/proc/sys/kernel/random/boot_id')?.trim()}/${ticks}`;
}

/** Whether `pid` is the PostgreSQL server of the data folder `dir`, as far as the system lets one see. */
export function isPostmasterOf(pid: number, dir: string): boolean {
  if (!isAlive(pid)) return false;
  const args = readText(`/proc/${pid}/cmdline`)?.split('\0');
  if (args === undefined) return true;
  if (readText(`/proc/${pid}/comm`)?.trim() !== 'postgres') return false;
  return args.includes(dir) || workingFolder(pid) === dir;
}

/**
 * PostgreSQL processes at work on the data folder `dir`.
 * @param title what the server's processes carry in their titles (`cluster_name`): a container's root may read those of
 *   other accounts, but not where they work
 * @returns `certain` is false when some process could not be looked at, so that `pids` may lack some
 */
export function postgresProcesses(dir: string, title: string): { pids: number[]; certain: boolean } {
  const pids: number[] = [];
  let certain = readText('/proc/self/stat') !== undefined;
  if (!certain) return { pids, certain };
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || readText(`/proc/${entry}/comm`)?.trim() !== 'postgres') continue;
    const pid = Number(entry);
    const folder = workingFolder(pid);
    const command = readText(`/proc/${pid}/cmdline`) ?? '';
    if (folder === dir || command.includes(title)) pids.push(pid);
    else if (folder === undefined && isAlive(pid)) certain = false;
  }
  return { pids, certain };
}

/** Sends a signal; a process that is already gone is fine. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Waits until `condition` holds. @returns whether it did within `ms` */
export async function until(condition: () => boolean, ms: number): Promise<boolean> {
  const deadline = Date.now() + ms;
  while (!condition()) {
    if (Date.now() >= deadline) return false;
    await delay(15);
  }
  return true;
}

/** Content of a file, undefined when it cannot be read. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** Fields of /proc/pid/stat from the state on; the name before it may hold spaces and brackets. */
function statFields(pid: number): string[] | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function workingFolder(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}
