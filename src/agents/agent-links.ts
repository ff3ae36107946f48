import { Injectable } from '@nestjs/common';
import { CLOSE_REPLACED, type AgentFrame, type ServerFrame } from '@nexus/agent/protocol';
import { Bus } from '../platform/realtime/index.js';
import { FRAME_TYPES } from './agent-frames.js';
import type { AgentLink, HelloFrame, OpenLink } from './agent-link.js';

type FrameType = Exclude<AgentFrame['type'], 'hello'>;
type FrameHandler<T extends FrameType> = (
  link: AgentLink,
  frame: Extract<AgentFrame, { type: T }>,
) => void | Promise<void>;
type Resume = Extract<ServerFrame, { type: 'welcome' }>['resume'];
type HelloListener = (link: AgentLink, hello: HelloFrame) => Promise<Resume>;
type WorkListener = (agentId: string, link: AgentLink) => void;

const WAKE = 'agents.wake';
const RELAY = 'agents.relay';
const REPLACED = 'agents.replaced';
/** Messages of the bus stay below 7 kB. */
const RELAY_LIMIT = 6500;
const WAKE_BATCH = 100;

/**
 * The agents connected right now, and the way to them from any process. Domains contribute what is done with frames;
 * frames of one link are handed over in the order of their arrival, without waiting for the handler before.
 */
@Injectable()
export class AgentLinks {
  private readonly links = new Map<string, OpenLink>();
  private readonly handlers = new Map<string, (link: AgentLink, frame: AgentFrame) => void | Promise<void>>();
  private readonly helloListeners: HelloListener[] = [];
  private readonly workListeners: WorkListener[] = [];

  constructor(private readonly bus: Bus) {
    bus.subscribe<{ agents: string[] }>(WAKE, ({ agents }) => agents.forEach((id) => this.workHere(id)));
    bus.subscribe<{ agentId: string; frame: ServerFrame }>(RELAY, ({ agentId, frame }) => this.send(agentId, frame));
    bus.subscribe<{ agentId: string; linkId: string }>(REPLACED, ({ agentId, linkId }) => {
      const link = this.links.get(agentId);
      if (link?.id === linkId) this.drop(link);
    });
  }

  /**
   * Says what is done with frames of a type; called while the server boots. Frames are valid in shape when they come. A
   * handler that throws or rejects sends the agent an `error` frame; until it resolves, its frame counts against the bound
   * of the link (a link with too much in work is not read).
   * @throws Error when the type has a handler already
   */
  handle<T extends FrameType>(type: T, handler: FrameHandler<T>): void {
    if (this.handlers.has(type)) throw new Error(`Frames ${type} of agents have two handlers`);
    this.handlers.set(type, handler as (link: AgentLink, frame: AgentFrame) => void | Promise<void>);
  }

  /** @throws Error naming the frames that nobody takes; called once the server has booted */
  assertComplete(): void {
    const missing = FRAME_TYPES.filter((type) => type !== 'hello' && !this.handlers.has(type));
    if (missing.length > 0) throw new Error(`Frames of agents without a handler: ${missing.join(', ')}`);
  }

  /** `listener` fills `welcome.resume`; it runs before the agent is told anything else. */
  onHello(listener: HelloListener): void {
    this.helloListeners.push(listener);
  }

  /** `listener` is called on the process that holds the link, after `welcome` and at each {@link wake}. It must not throw. */
  onWork(listener: WorkListener): void {
    this.workListeners.push(listener);
  }

  /** True when this process holds the agent's link. */
  isLocal(agentId: string): boolean {
    return this.links.has(agentId);
  }

  /** UUIDs of the agents whose links this process holds. */
  local(): string[] {
    return [...this.links.keys()];
  }

  /** Sends over a link of this process; false when there is none or the agent reads too slowly. */
  send(agentId: string, frame: ServerFrame): boolean {
    return this.links.get(agentId)?.send(frame) ?? false;
  }

  /** Tells whichever process holds the link of each agent that there is work. Can be lost: never the only way. */
  wake(...agentIds: string[]): void {
    const elsewhere = agentIds.filter((id) => !this.workHere(id));
    for (let i = 0; i < elsewhere.length; i += WAKE_BATCH) {
      this.bus.publish(WAKE, { agents: elsewhere.slice(i, i + WAKE_BATCH) });
    }
  }

  /**
   * Sends `frame` through whichever process holds the link. Can be lost.
   * @throws RangeError when the frame is too big to go between processes
   */
  relay(agentId: string, frame: ServerFrame): void {
    if (this.links.has(agentId)) {
      this.send(agentId, frame);
      return;
    }
    if (Buffer.byteLength(JSON.stringify(frame)) > RELAY_LIMIT) throw new RangeError('The frame is too big to relay');
    this.bus.publish(RELAY, { agentId, frame });
  }

  /** What the domains have to say to a new link: the contents of `welcome.resume`. */
  async greet(link: OpenLink, hello: HelloFrame): Promise<Resume> {
    return (await Promise.all(this.helloListeners.map((listener) => listener(link, hello)))).flat();
  }

  /** Makes `link` the one of its agent here, and everywhere ends the link it `replaced`. */
  add(link: OpenLink, replaced: string | null): void {
    const older = this.links.get(link.agentId);
    if (older && older !== link) this.drop(older);
    this.links.set(link.agentId, link);
    if (replaced && replaced !== older?.id) this.bus.publish(REPLACED, { agentId: link.agentId, linkId: replaced });
  }

  remove(link: OpenLink): void {
    if (this.links.get(link.agentId) === link) this.links.delete(link.agentId);
  }

  all(): IterableIterator<OpenLink> {
    return this.links.values();
  }

  /** Hands a frame to its handler; undefined when the type has none. */
  dispatch(link: OpenLink, frame: AgentFrame): Promise<void> | undefined {
    const handler = this.handlers.get(frame.type);
    return handler && (async () => handler(link, frame))();
  }

  /** Calls the listeners for work when the link is here. */
  workHere(agentId: string): boolean {
    const link = this.links.get(agentId);
    if (!link) return false;
    for (const listener of this.workListeners) listener(agentId, link);
    return true;
  }

  private drop(link: OpenLink): void {
    this.remove(link);
    link.socket.close(CLOSE_REPLACED, 'A newer connection of this agent took over');
  }
}
