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
  const postmaster = Number(readFileSync(path.join(home, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0]);
  const backends = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((entry) => statOf(Number(entry)))
    .filter((stat) => stat?.parent === postmaster);
  const own = statOf(nexusPid);
  const server = statOf(postmaster);
  return {
    node: own?.self ?? 0,
    postgres:
      (server?.self ?? 0) + (server?.children ?? 0) + backends.reduce((sum, stat) => sum + (stat?.self ?? 0), 0),
  };
}

export function cpuBetween(before: CpuTime, after: CpuTime): CpuTime {
  return { node: after.node - before.node, postgres: after.postgres - before.postgres };
}

function statOf(pid: number): { parent: number; self: number; children: number } | null {
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
    parent: fields[1],
    self: (fields[11] + fields[12]) * MS_PER_TICK,
    children: (fields[13] + fields[14]) * MS_PER_TICK,
  };
}
