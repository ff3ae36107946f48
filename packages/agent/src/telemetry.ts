import type { AgentLog } from './log.js';
import type { AgentFrame, ServerFrame, TelemetryEventFrame } from './protocol.js';
import type { Spool } from './spool.js';

/** Batches on their way at the same time. */
const WINDOW = 4;
/** A batch that is not acknowledged in this time on a link that stands is sent again; its ids make that harmless. */
const RESEND_MS = 30_000;

type Answer = Extract<ServerFrame, { type: 'telemetry_ack' | 'telemetry_nack' }>;

/** Sends spooled batches, oldest first, until Nexus has stored each. */
export class Telemetry {
  /** Batch id -> when it was sent. */
  private readonly inFlight = new Map<string, number>();
  private pausedUntil = 0;
  private timer: NodeJS.Timeout | undefined;
  private idle: (() => void) | undefined;

  /** @param send returns false when there is no link */
  constructor(
    private readonly spool: Spool,
    private readonly send: (frame: AgentFrame) => boolean,
    private readonly log: AgentLog,
  ) {}

  async record(events: TelemetryEventFrame[]): Promise<void> {
    await this.spool.add(events);
    this.pump();
  }

  /** A new link: nothing that was sent over the last one counts. */
  resume(): void {
    this.inFlight.clear();
    this.pausedUntil = 0;
    this.pump();
  }

  answer(frame: Answer): void {
    this.inFlight.delete(frame.batch_id);
    if (frame.type === 'telemetry_ack') {
      this.spool.remove(frame.batch_id);
      if (frame.rejected.length > 0) {
        const [{ issue }] = frame.rejected;
        this.log.warn('Nexus rejected telemetry', { batch: frame.batch_id, events: frame.rejected.length, issue });
      }
      const [warning] = frame.warnings ?? [];
      if (warning) this.log.warn('Nexus warns of telemetry', { batch: frame.batch_id, issue: warning.issue });
    } else {
      this.pausedUntil = Date.now() + Math.min(60_000, Math.max(100, frame.retry_after_ms));
    }
    if (this.spool.batches.size === 0) this.idle?.();
    this.pump();
  }

  /** Resolves when everything spooled is stored by Nexus, or after `ms`. */
  async flush(ms: number): Promise<void> {
    this.pump();
    if (this.spool.batches.size === 0 || this.inFlight.size === 0) return;
    await new Promise<void>((resolve) => {
      const limit = setTimeout(resolve, ms);
      this.idle = () => {
        clearTimeout(limit);
        resolve();
      };
    });
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private pump(): void {
    clearTimeout(this.timer);
    const now = Date.now();
    if (now < this.pausedUntil) {
      this.timer = setTimeout(() => this.pump(), this.pausedUntil - now);
      return;
    }
    for (const [id, at] of this.inFlight) {
      if (now - at >= RESEND_MS || !this.spool.batches.has(id)) this.inFlight.delete(id);
    }
    for (const batch of this.spool.batches.values()) {
      if (this.inFlight.size >= WINDOW) break;
      if (this.inFlight.has(batch.id)) continue;
      const events = this.spool.read(batch);
      if (!events) continue;
      if (!this.send({ type: 'telemetry', batch_id: batch.id, events })) return;
      this.inFlight.set(batch.id, now);
    }
    if (this.inFlight.size > 0) this.timer = setTimeout(() => this.pump(), RESEND_MS);
  }
}
