import type { OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import { type OnGatewayConnection, WebSocketGateway } from '@nestjs/websockets';
import {
  type AgentFrame,
  CLOSE_PROTOCOL_ERROR,
  LINK_PATH,
  LINK_SUBPROTOCOL,
  MAX_FRAME_BYTES,
  PROTOCOL_VERSION,
} from '@nexus/agent/protocol';
import type { Counter } from 'prom-client';
import { Settings } from '../platform/config/index.js';
import { AgentSettings } from './agents.settings.js';
import { parseJsonBody } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import {
  CLOSE_GOING_AWAY,
  CLOSE_OVERLOADED,
  CLOSE_POLICY,
  type Socket,
  type SocketOptions,
} from '../platform/realtime/index.js';
import { type HelloFrame, OpenLink } from './agent-link.js';
import { toAgentFrame } from './agent-frames.js';
import { AgentLinks } from './agent-links.js';
import { AgentPresence } from './agent-presence.js';
import { PresenceWriter } from './presence-writer.js';

/** An agent that is connected and says nothing is no agent. */
const HELLO_LIMIT_MS = 10_000;
/** Frames of one link in work, and the bytes of their messages; at a limit its socket is not read until half of them are done. */
const MAX_PENDING = 256;
const MAX_PENDING_BYTES = 1024 * 1024;
/** For all links together: past it a link gets no further than one read of its socket until that is done. */
const MAX_TOTAL_BYTES = 32 * 1024 * 1024;
/** The body guard for one frame; telemetry has a few keys per event. */
const FRAME_LIMITS = { maxDepth: 64, maxKeys: 50_000, maxValues: 100_000, maxKeyLength: 256 };
/** Bad frames of one link before it is closed. */
const MAX_VIOLATIONS = 5;
/** Mean pause before the agents of a stopping server come back; they spread it themselves. */
const RETURN_AFTER_MS = 1000;

/** The socket side of the agent link: greets, checks frames, hands them over, keeps presence true. */
@WebSocketGateway({
  path: LINK_PATH,
  subprotocol: LINK_SUBPROTOCOL,
  anyOf: ['ai:agent'],
  maxPayload: MAX_FRAME_BYTES,
  perActor: 4,
  browsers: false,
} satisfies SocketOptions)
export class AgentLinkGateway implements OnGatewayConnection<Socket>, OnApplicationBootstrap, OnModuleDestroy {
  private readonly frames: Counter<'type'>;
  private readonly writer: PresenceWriter;
  /** Bytes of the frames in work of all links. */
  private pendingBytes = 0;

  constructor(
    private readonly links: AgentLinks,
    private readonly presence: AgentPresence,
    private readonly server: Settings,
    private readonly settings: AgentSettings,
    private readonly logger: Logger,
    metrics: Metrics,
  ) {
    this.frames = metrics.counter('nexus_agent_frames_total', 'Frames received from agents.', ['type']);
    metrics.gauge('nexus_agent_links', 'Agent links open in this process.', [], function () {
      this.set(links.local().length);
    });
    links.handle('heartbeat', (link, frame) => {
      (link as OpenLink).loadPercent = frame.load_percent;
    });
    this.writer = new PresenceWriter(links, presence, logger);
  }

  async onApplicationBootstrap(): Promise<void> {
    this.links.assertComplete();
    // The embedded database serves one process: whoever held a link before is gone.
    if (this.server.embedded) await this.presence.clearStale();
    this.writer.start(Math.min(5000, (this.settings.heartbeatSeconds * 1000) / 2));
  }

  handleConnection(socket: Socket): void {
    const { agentId } = socket.actor;
    if (!agentId) {
      socket.close(CLOSE_POLICY, 'This key belongs to no agent');
      return;
    }
    const link = new OpenLink(socket, agentId);
    const late = setTimeout(() => {
      if (link.state === 'new') socket.close(CLOSE_PROTOCOL_ERROR, 'No hello came');
    }, HELLO_LIMIT_MS);
    socket.onMessage((message) => this.receive(link, message));
    socket.onClose(() => {
      clearTimeout(late);
      this.links.remove(link);
      if (link.state !== 'new') this.writer.gone(link);
    });
  }

  /** Tells the agents that this process is about to close their links, and why. */
  async onModuleDestroy(): Promise<void> {
    for (const link of this.links.all()) {
      link.send({ type: 'bye', reason: 'The server is stopping', retry_after_ms: RETURN_AFTER_MS });
      link.socket.close(CLOSE_GOING_AWAY, 'The server is stopping');
    }
    await this.writer.stop();
  }

  private receive(link: OpenLink, message: Buffer): void {
    const parsed = parseJsonBody(message, FRAME_LIMITS);
    const frame = 'problem' in parsed ? parsed.problem.reason : toAgentFrame(parsed.value);
    if (typeof frame === 'string') {
      this.violation(link, 'BAD_FRAME', frame);
      return;
    }
    this.frames.inc({ type: frame.type });
    if (frame.type === 'hello') {
      if (link.state === 'new') void this.greet(link, frame);
      else this.violation(link, 'UNEXPECTED_FRAME', 'hello is said once');
    } else if (link.state === 'open') this.pass(link, frame, message.length);
    else this.violation(link, 'UNEXPECTED_FRAME', 'the first frame is hello; the next ones follow welcome');
  }

  private async greet(link: OpenLink, hello: HelloFrame): Promise<void> {
    if (hello.protocol !== PROTOCOL_VERSION) {
      link.send({
        type: 'error',
        code: 'UNSUPPORTED_PROTOCOL',
        message: `This server speaks version ${PROTOCOL_VERSION}: install the agent that belongs to it`,
      });
      link.socket.close(CLOSE_PROTOCOL_ERROR, 'Unsupported protocol version');
      return;
    }
    link.state = 'greeting';
    try {
      const connected = await this.presence.connected(link.agentId, link.id, hello);
      if (!connected) {
        link.socket.close(CLOSE_POLICY, 'This agent is not registered');
        return;
      }
      link.name = connected.name;
      link.reportedAt = link.socket.heardAt;
      const resume = await this.links.greet(link, hello);
      if (!link.socket.open) {
        // It closed before the database knew of it.
        this.writer.gone(link);
        return;
      }
      link.state = 'open';
      this.links.add(link, connected.replaced);
      link.send({
        type: 'welcome',
        agent_id: publicId('agent', link.agentId),
        name: link.name,
        server_time: new Date().toISOString(),
        heartbeat_interval_ms: this.settings.heartbeatSeconds * 1000,
        resume,
        signing_key: connected.signingKey,
      });
      this.links.workHere(link.agentId);
    } catch (error) {
      this.logger.warn(
        { agent: publicId('agent', link.agentId), err: String(error) },
        'An agent could not be welcomed',
      );
      link.socket.close(CLOSE_OVERLOADED, 'Try again later');
    }
  }

  private pass(link: OpenLink, frame: AgentFrame, bytes: number): void {
    const work = this.links.dispatch(link, frame);
    if (!work) {
      this.violation(link, 'UNKNOWN_FRAME', `nothing here takes ${frame.type}`);
      return;
    }
    this.count(link, 1, bytes);
    if (!link.paused && this.fills(link, 1)) {
      link.paused = true;
      link.socket.pause();
    }
    work
      .catch((error: unknown) => {
        this.logger.error(
          { agent: publicId('agent', link.agentId), frame: frame.type, err: String(error) },
          'A frame of an agent failed',
        );
        link.send({ type: 'error', code: 'INTERNAL_ERROR', message: `${frame.type} could not be handled` });
      })
      .finally(() => {
        this.count(link, -1, -bytes);
        if (link.paused && !this.fills(link, 0.5)) {
          link.paused = false;
          link.socket.resume();
        }
      });
  }

  private count(link: OpenLink, frames: number, bytes: number): void {
    link.pending += frames;
    link.pendingBytes += bytes;
    this.pendingBytes += bytes;
  }

  /** Whether the frames in work of a link reach this part of a limit; with none in work it is always read. */
  private fills(link: OpenLink, part: number): boolean {
    if (link.pending === 0) return false;
    return (
      link.pending >= part * MAX_PENDING ||
      link.pendingBytes >= part * MAX_PENDING_BYTES ||
      this.pendingBytes >= MAX_TOTAL_BYTES
    );
  }

  private violation(link: OpenLink, code: string, message: string): void {
    link.send({ type: 'error', code, message });
    if (++link.violations >= MAX_VIOLATIONS) link.socket.close(CLOSE_PROTOCOL_ERROR, 'Too many bad frames');
  }
}
