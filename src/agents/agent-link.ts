import { randomUUID } from 'node:crypto';
import type { AgentFrame, ServerFrame } from '@nexus/agent/protocol';
import type { Actor } from '../platform/context/index.js';
import type { Socket } from '../platform/realtime/index.js';

export type HelloFrame = Extract<AgentFrame, { type: 'hello' }>;

/** The open link of one agent after its `hello`, as other domains see it. */
export interface AgentLink {
  /** New with every connection. */
  readonly id: string;
  /** UUID of the agent. */
  readonly agentId: string;
  readonly name: string;
  readonly actor: Actor;
  /** False when the link is closed, or is closed now because the agent reads too slowly. */
  send(frame: ServerFrame): boolean;
}

/** A link with what the registry of links keeps about it. */
export class OpenLink implements AgentLink {
  readonly id = randomUUID();
  /** Set by the agent's `hello`. */
  name = '';
  state: 'new' | 'greeting' | 'open' = 'new';
  loadPercent: number | null = null;
  /** `heardAt` of the socket when presence was written last. */
  reportedAt = 0;
  violations = 0;
  /** Frames whose handlers have not finished. */
  pending = 0;
  /** Bytes of their messages. */
  pendingBytes = 0;
  /** Whether the socket is left unread until some of them are done. */
  paused = false;

  constructor(
    readonly socket: Socket,
    readonly agentId: string,
  ) {}

  get actor(): Actor {
    return this.socket.actor;
  }

  send(frame: ServerFrame): boolean {
    return this.socket.send(frame);
  }
}
