import { randomUUID } from 'node:crypto';
import { linkSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { LockSocket, someoneListens } from './embedded-socket.js';
import { isAlive, processStamp, readText } from './embedded-process.js';
import { HomeInUseError, reasonOf, StartError } from './embedded-start-error.js';

/** A data folder held by this process. */
export interface HomeLock {
  release(): void;
}

const CLAIM = /^nexus\.lock\.(\d+)$/;

/**
 * Takes a data folder for this process alone. Claims are files `nexus.lock.1`, `nexus.lock.2`, ...: the highest number
 * decides who holds the folder, and only a claim that is released or whose process is gone may be outbid by the next
 * number. The highest claim is never deleted, so however many processes start at once after a crash, one of them wins.
 * A claim names a socket in the folder on which its process listens: it tells whether the process lives in any container
 * that shares the folder, where process ids say nothing.
 * @throws StartError when another live process holds the folder, or when the folder cannot be written
 */
export async function lockHome(home: string): Promise<HomeLock> {
  const claim = (n: number): string => path.join(home, `nexus.lock.${n}`);
  // Linked into place when complete, so that nobody ever reads half a claim.
  const draft = path.join(home, `nexus.lock.draft-${randomUUID()}`);
  const socket = await LockSocket.open(home, `nexus.lock.socket-${randomUUID()}`);
  let held = false;
  try {
    writeFileSync(draft, `${process.pid} ${processStamp(process.pid)} ${socket?.name ?? ''}\n`, { mode: 0o644 });
  } catch (error) {
    socket?.close();
    throw notWritable(home, error);
  }
  try {
    for (;;) {
      const top = highestClaim(home);
      const holder = top > 0 ? readText(claim(top)) : '';
      if (holder === undefined) continue;
      await refuseIfHeld(holder, home);
      if (!link(draft, claim(top + 1), home)) continue;
      if (highestClaim(home) > top + 1) {
        // Our look at the folder was out of date: others have come and gone in between.
        rmSync(claim(top + 1), { force: true });
        continue;
      }
      for (const n of claims(home)) if (n <= top) remove(claim(n), home);
      held = true;
      return {
        release: () => {
          release(claim(top + 1));
          socket?.close();
        },
      };
    }
  } finally {
    rmSync(draft, { force: true });
    if (!held) socket?.close();
  }
}

/** The error for a data folder that this account cannot write. */
export function notWritable(home: string, error: unknown): StartError {
  return new StartError(
    `The data folder ${home} is not writable (${reasonOf(error)}): set NEXUS_HOME to a folder that this account may write.`,
  );
}

function release(claim: string): void {
  try {
    writeFileSync(claim, '');
  } catch {
    // The folder has been removed: nobody can want it any more.
  }
}

function claims(home: string): number[] {
  return readdirSync(home)
    .flatMap((name) => CLAIM.exec(name)?.[1] ?? [])
    .map(Number);
}

function highestClaim(home: string): number {
  return Math.max(0, ...claims(home));
}

async function refuseIfHeld(holder: string, home: string): Promise<void> {
  const [pid, stamp, socket] = holder.trim().split(' ');
  const id = Number(pid);
  if (!(id > 0)) return;
  const here = isAlive(id) && processStamp(id) === (stamp ?? '');
  const listens = socket ? await someoneListens(home, socket) : undefined;
  if (listens ?? here) {
    const where = here ? `pid ${id}` : 'in another container';
    throw new HomeInUseError(`Nexus is already running with the data folder ${home} (${where}).`);
  }
}

/** An old claim, with the socket of its process. */
function remove(claim: string, home: string): void {
  const socket = readText(claim)?.trim().split(' ')[2];
  if (socket) rmSync(path.join(home, socket), { force: true });
  rmSync(claim, { force: true });
}

function link(from: string, to: string, home: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw notWritable(home, error);
  }
}
