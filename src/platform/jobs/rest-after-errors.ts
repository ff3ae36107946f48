import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'bullmq';

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5000;
/** An error this long after the last one begins a new series. */
const SERIES_MS = 60_000;

/**
 * Lets a worker rest after an error, longer each time in a series. The library itself asks again at once after any error that is
 * not a refused connection, so that a store that is read-only, full or short of connections would be asked without end.
 */
export function restAfterErrors(worker: Worker, stopping: AbortSignal): void {
  let series = 0;
  let lastAt = -Infinity;
  let resting = false;
  worker.on('active', () => (series = 0));
  worker.on('error', () => {
    if (resting || stopping.aborted || worker.closing) return;
    resting = true;
    const now = performance.now();
    if (now - lastAt > SERIES_MS) series = 0;
    lastAt = now;
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** series++, MAX_PAUSE_MS);
    // Takes no more jobs; those that run go on.
    void worker
      .pause(true)
      .then(() => delay(pause, undefined, { signal: stopping, ref: false }))
      .then(() => {
        resting = false;
        return worker.resume();
      })
      .catch(() => undefined);
  });
}
