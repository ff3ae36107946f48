import { Semaphore } from '../platform/concurrency/index.js';
import type { Logger } from '../platform/observability/index.js';
import { CLOSE_GOING_AWAY } from '../platform/realtime/index.js';
import type { OpenLink } from './agent-link.js';
import type { AgentLinks } from './agent-links.js';
import type { AgentPresence } from './agent-presence.js';

/** Writes presence in batches: 500 agents cost one statement every few seconds, and one when they all leave at once. */
export class PresenceWriter {
  private readonly left = new Map<string, string>();
  private timer: NodeJS.Timeout | undefined;
  private soon: NodeJS.Timeout | undefined;
  private readonly mutex = new Semaphore(1);
  private stopped = false;

  constructor(
    private readonly links: AgentLinks,
    private readonly presence: AgentPresence,
    private readonly logger: Logger,
  ) {}

  start(everyMs: number): void {
    this.timer = setInterval(() => void this.write(), everyMs);
  }

  /** Marks the agent of the link as gone, unless it has a newer link by then. */
  gone(link: OpenLink): void {
    if (this.stopped) return;
    this.left.set(link.id, link.agentId);
    this.soon ??= setTimeout(() => void this.write(), 20);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.stopped = true;
    for (const link of this.links.all()) this.left.set(link.id, link.agentId);
    await this.write();
  }

  private write(): Promise<void> {
    clearTimeout(this.soon);
    this.soon = undefined;
    return this.mutex.run(() => this.writeNow());
  }

  private async writeNow(): Promise<void> {
    const left = [...this.left].map(([linkId, agentId]) => ({ agentId, linkId }));
    const heard = [...this.links.all()]
      .filter((link) => link.socket.heardAt > link.reportedAt)
      .map((link) => ({ link, at: link.socket.heardAt }))
      .sort((a, b) => (a.link.agentId < b.link.agentId ? -1 : 1));
    try {
      if (left.length > 0) await this.presence.disconnected(left);
      for (const { linkId } of left) this.left.delete(linkId);
      const current = await this.presence.seen(
        heard.map(({ link, at }) => ({ agentId: link.agentId, linkId: link.id, at, loadPercent: link.loadPercent })),
      );
      for (const { link, at } of heard) {
        link.reportedAt = at;
        // Somebody took this link for dead, or a newer one is with a process that could not tell: the agent may try again.
        if (!current.has(link.agentId)) link.socket.close(CLOSE_GOING_AWAY, 'The link was given up; connect again');
      }
    } catch (error) {
      // Tried again with the next batch; the sweep makes good what never comes.
      this.logger.warn({ err: String(error) }, 'The presence of agents could not be written');
    }
  }
}
