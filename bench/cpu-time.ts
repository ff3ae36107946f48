import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Milliseconds of CPU that a server has used since its start: what other work on the machine hardly changes, unlike wall-clock time. */
export interface CpuTime {
  node: number;
  postgres: number;
}

/** Clock ticks of /proc are hundredths of a second on every Linux. */
const MS_PER_TICK = 10;

/** Of the server process and its embedded database (all backends, ended ones included). Linux only. */
export function cpuTime(nexusPid: number, home: string): CpuTime {
  const postmaster = postmasterOf(home);
  const backends = processes().filter(({ parent }) => parent === postmaster);
  const own = statOf(nexusPid);
  const server = statOf(postmaster);
  return {
    node: own?.self ?? 0,
    postgres: (server?.self ?? 0) + (server?.children ?? 0) + backends.reduce((sum, { self }) => sum + self, 0),
  };
}

/** As {@link cpuTime}, with the server's own child processes (its agent) in the share of Node. Those that end meanwhile are not counted. */
export function treeCpuTime(nexusPid: number, home: string): CpuTime {
  const { postgres, node } = cpuTime(nexusPid, home);
  const postmaster = postmasterOf(home);
  const children = processes().filter(({ pid, parent }) => parent === nexusPid && pid !== postmaster);
  return { postgres, node: node + children.reduce((sum, { self }) => sum + self, 0) };
}

export function cpuBetween(before: CpuTime, after: CpuTime): CpuTime {
  return { node: after.node - before.node, postgres: after.postgres - before.postgres };
}

function postmasterOf(home: string): number {
  return Number(readFileSync(path.join(home, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0]);
}

interface ProcessStat {
  pid: number;
  parent: number;
  self: number;
  children: number;
}

function processes(): ProcessStat[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => statOf(Number(entry)) ?? []);
}

function statOf(pid: number): ProcessStat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The name before may hold blanks; fields from the third on follow the last parenthesis.
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  return {
    pid,
    parent: fields[1],
    self: (fields[11] + fields[12]) * MS_PER_TICK,
    children: (fields[13] + fields[14]) * MS_PER_TICK,
  };
}
