import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Clock ticks a second in `/proc`, the same on every Linux. */
const TICKS = 100;

/** Processor seconds that the server, its database and this process have used so far. Linux only. */
export interface CpuTimes {
  server: number;
  database: number;
  bench: number;
}

/** Reads the times of the server `pid` and of the embedded database in `home`, with all its processes. */
export function cpuTimes(pid: number, home: string): CpuTimes {
  const postmaster = Number(readFileSync(path.join(home, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0]);
  // Those that have ended are in the times of the parent.
  let database = secondsOf(postmaster, true);
  for (const entry of readdirSync('/proc')) {
    if (/^\d+$/.test(entry) && Number(statOf(Number(entry))?.[1]) === postmaster) database += secondsOf(Number(entry));
  }
  const { user, system } = process.cpuUsage();
  return { server: secondsOf(pid), database, bench: (user + system) / 1e6 };
}

/** Microseconds of processor time per piece of work between two readings. */
export function perPiece(from: CpuTimes, to: CpuTimes, pieces: number): CpuTimes {
  const each = (name: keyof CpuTimes): number => ((to[name] - from[name]) / pieces) * 1e6;
  return { server: each('server'), database: each('database'), bench: each('bench') };
}

function secondsOf(pid: number, withEnded = false): number {
  const stat = statOf(pid);
  if (!stat) return 0;
  const [user, system, endedUser, endedSystem] = stat.slice(11, 15).map(Number);
  return (user + system + (withEnded ? endedUser + endedSystem : 0)) / TICKS;
}

/** The fields of `/proc/<pid>/stat` after the name: state, parent, ... */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}
