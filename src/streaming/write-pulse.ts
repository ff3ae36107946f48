import type { StreamClient } from './stream-client.js';
import type { StreamEvent } from './stream-event.js';

/** The longest time that an event waits for others to be written with it. */
const PULSE_MS = 10;

/**
 * Writes all events for one reader within a few milliseconds in one system call, because with many readers these calls are most of the
 * work. The first event after a pause is written in the same turn of the event loop.
 */
export class WritePulse {
  private readonly corked = new Set<StreamClient>();
  private readonly flushing = (): void => this.flush();
  private flushedAt = 0;
  private pending = false;

  send(client: StreamClient, event: StreamEvent, channel: string, id?: string): void {
    if (!this.corked.has(client)) {
      client.cork();
      this.corked.add(client);
      this.schedule();
    }
    client.send(event, channel, id);
  }

  flush(): void {
    this.pending = false;
    for (const client of this.corked) client.uncork();
    this.corked.clear();
    this.flushedAt = performance.now();
  }

  private schedule(): void {
    if (this.pending) return;
    this.pending = true;
    const wait = this.flushedAt + PULSE_MS - performance.now();
    if (wait < 1) setImmediate(this.flushing);
    else setTimeout(this.flushing, wait);
  }
}
