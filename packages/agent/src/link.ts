import WebSocket from 'ws';
import { reasonOf } from './agent-error.js';
import { Backoff, jitter } from './backoff.js';
import type { AgentLog } from './log.js';
import {
  type AgentFrame,
  CLOSE_REPLACED,
  LINK_PATH,
  LINK_SUBPROTOCOL,
  MAX_FRAME_BYTES,
  type ServerFrame,
} from './protocol.js';

type WelcomeFrame = Extract<ServerFrame, { type: 'welcome' }>;

/** What the link tells its owner. */
export interface LinkEvents {
  hello(): AgentFrame;
  /** The server knows this agent: frames may flow. */
  welcome(frame: WelcomeFrame): void;
  frame(frame: ServerFrame): void;
  /** A link that was welcomed is gone; another try follows by itself. */
  lost(): void;
  /** Bytes that could not be taken at once are on their way: more can be sent. */
  writable(): void;
  /** Another link with this agent's key took over; there will be no further try. */
  replaced(): void;
}

const OPEN_TIMEOUT_MS = 15_000;
const DEAD_MS = 60_000;
const FULL_BYTES = 1024 * 1024;
const CLOSE_GOING_AWAY = 1001;
const CLOSE_POLICY = 1008;
/** A key that was refused is not tried again soon: it may be accepted again, it may be revoked for good. */
const REFUSED_PAUSE_MS = 30_000;

/** Keeps one outbound WebSocket to Nexus open, whatever happens in between. */
export class Link {
  private socket: WebSocket | undefined;
  private welcomed = false;
  private stopped = false;
  private heardAt = 0;
  private full = false;
  /** Set by `bye`: when the server wants to see this agent again. */
  private returnAfterMs: number | undefined;
  private retry: NodeJS.Timeout | undefined;
  private watch: NodeJS.Timeout | undefined;
  private readonly backoff = new Backoff();
  private readonly address: string;

  /** @param url URL of the API, http or https */
  constructor(
    url: string,
    private readonly key: string,
    private readonly events: LinkEvents,
    private readonly log: AgentLog,
  ) {
    this.address = `${url.replace(/^http/, 'ws')}/${LINK_PATH}`;
  }

  get open(): boolean {
    return this.welcomed;
  }

  /** False while the server reads slower than the agent writes: what can wait should. */
  get writable(): boolean {
    if (!this.welcomed || !this.socket) return false;
    if (this.socket.bufferedAmount > FULL_BYTES) this.full = true;
    return !this.full;
  }

  start(): void {
    this.connect();
  }

  /** @returns false when there is no link; the owner repeats after the next welcome what must not be lost */
  send(frame: AgentFrame): boolean {
    if (!this.welcomed || !this.socket) return false;
    const { socket } = this;
    socket.send(JSON.stringify(frame), () => {
      if (this.full && socket === this.socket && socket.bufferedAmount < FULL_BYTES / 2) {
        this.full = false;
        this.events.writable();
      }
    });
    return true;
  }

  /** Closes with 1001; resolves when the socket is gone. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.retry);
    const { socket } = this;
    if (!socket || socket.readyState === WebSocket.CLOSED) return;
    await new Promise<void>((resolve) => {
      const giveUp = setTimeout(() => socket.terminate(), 2000);
      socket.once('close', () => {
        clearTimeout(giveUp);
        resolve();
      });
      if (socket.readyState === WebSocket.CONNECTING) socket.terminate();
      else socket.close(CLOSE_GOING_AWAY, 'agent stopped');
    });
  }

  private connect(): void {
    const socket = new WebSocket(this.address, LINK_SUBPROTOCOL, {
      headers: { authorization: `Bearer ${this.key}` },
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      handshakeTimeout: OPEN_TIMEOUT_MS,
    });
    this.socket = socket;
    this.full = false;
    let refused = false;
    let problem = '';
    this.heard();
    socket.on('open', () => {
      this.heard();
      socket.send(JSON.stringify(this.events.hello()));
    });
    socket.on('message', (data: Buffer) => this.receive(data));
    socket.on('ping', () => this.heard());
    socket.on('pong', () => this.heard());
    socket.on('unexpected-response', (_request, response) => {
      refused = response.statusCode === 401 || response.statusCode === 403;
      problem = `status ${response.statusCode}`;
      socket.terminate();
    });
    socket.on('error', (error) => {
      problem ||= error.message;
    });
    socket.on('close', (code, reason) => {
      if (socket === this.socket) this.closed(code, reason.toString() || problem, refused || code === CLOSE_POLICY);
    });
    const opening = performance.now();
    clearInterval(this.watch);
    this.watch = setInterval(() => {
      const late = !this.welcomed && performance.now() - opening > OPEN_TIMEOUT_MS;
      if (!late && performance.now() - this.heardAt < DEAD_MS) return;
      problem = late ? 'no welcome came' : 'nothing was heard for 60 s';
      socket.terminate();
    }, 5000);
  }

  private receive(data: Buffer): void {
    this.heard();
    try {
      this.handle(JSON.parse(data.toString()) as ServerFrame);
    } catch (error) {
      // Whatever a server sends, the agent stays.
      this.log.error('A frame of the server could not be handled', { reason: reasonOf(error) });
    }
  }

  private handle(frame: ServerFrame): void {
    if (frame.type === 'welcome') {
      if (this.welcomed) return;
      this.welcomed = true;
      this.backoff.reset();
      this.events.welcome(frame);
    } else if (frame.type === 'bye') {
      this.returnAfterMs = frame.retry_after_ms;
      this.log.info('The server is about to close the link', { reason: frame.reason });
    } else if (frame.type === 'error') {
      this.log.warn('The server reports an error', { code: frame.code, reason: frame.message });
    } else if (this.welcomed) {
      this.events.frame(frame);
    }
  }

  private closed(code: number, reason: string, refused: boolean): void {
    const wasWelcomed = this.welcomed;
    this.welcomed = false;
    this.socket = undefined;
    clearInterval(this.watch);
    if (wasWelcomed) this.events.lost();
    if (this.stopped) return;
    if (code === CLOSE_REPLACED) {
      this.stopped = true;
      this.events.replaced();
      return;
    }
    const ms = this.pause(refused);
    const fields = { code, reason, retry_ms: Math.round(ms) };
    if (refused) {
      const message =
        "Nexus refuses this agent's key (revoked?): to join anew, remove identity.json and give a new token";
      this.log.error(message, fields);
    } else this.log.warn(wasWelcomed ? 'The link is lost' : 'Nexus cannot be reached', fields);
    this.retry = setTimeout(() => this.connect(), ms);
  }

  private pause(refused: boolean): number {
    const asked = this.returnAfterMs;
    this.returnAfterMs = undefined;
    if (refused) return REFUSED_PAUSE_MS * (1 + Math.random());
    return asked === undefined ? this.backoff.next() : jitter(asked);
  }

  private heard(): void {
    this.heardAt = performance.now();
  }
}
