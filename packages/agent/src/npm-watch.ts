import { readFileSync } from 'node:fs';
import { processStart } from './home.js';

const LOOK_MS = 500;

/**
 * Calls `gone` when the npm or npx that started this process has ended: it runs its programs through a shell and does not
 * always pass signals on. Nothing is watched in a process that npm did not start.
 */
export function onNpmGone(gone: () => void): void {
  // npm sets it for what it runs.
  if (!process.env['npm_execpath']) return;
  const parent = process.ppid;
  const npm = npmOf(parent);
  const started = npm && processStart(npm);
  const timer = setInterval(() => {
    if (process.ppid === parent && (!npm || processStart(npm) === started)) return;
    clearInterval(timer);
    gone();
  }, LOOK_MS);
  timer.unref();
}

/** The process above the shell that npm has put in between; null where there is no /proc, or no shell. */
function npmOf(parent: number): number | null {
  try {
    const stat = readFileSync(`/proc/${parent}/stat`, 'utf8');
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    return /^(ba|da|z|k)?sh$/.test(name) ? Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) : null;
  } catch {
    return null;
  }
}
