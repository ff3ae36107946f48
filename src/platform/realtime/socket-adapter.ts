import type { IncomingHttpHeaders, IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { WsAdapter } from '@nestjs/platform-ws';
import { WebSocketServer } from 'ws';
import { Settings } from '../config/index.js';
import { type Actor, type RequestContext, runInContext } from '../context/index.js';
import { AppError, isAppError } from '../errors/index.js';
import {
  authorize,
  clientIp,
  Gatekeeper,
  type HeaderSink,
  KnownRoutes,
  RateLimiter,
  requestIdOf,
  RequestObservers,
} from '../http/index.js';
import { CredentialWatch } from './credential-watch.js';
import { CLOSE_GOING_AWAY, CLOSE_POLICY, type MessageRate, Socket } from './socket.js';
import { SocketTickets } from './socket-tickets.js';
import {
  chosenProtocol,
  credentialOf,
  offered,
  originAllowed,
  refuse,
  serveWithoutUpgrade,
  turnAway,
} from './upgrade.js';

/** The options of a `@WebSocketGateway(...)` of this server. Its `handleConnection` gets a {@link Socket}. */
export interface SocketOptions {
  /** Exact path of the URL; without a leading slash it is under the API prefix. */
  path: string;
  /** Further paths of the same gateway, with their own `anyOf` where they need other scopes. */
  aliases?: readonly { path: string; anyOf?: readonly string[] }[];
  /** The client must offer this subprotocol. When not set, any or none will do. */
  subprotocol?: string;
  /** The actor must hold one of these scopes. */
  anyOf: readonly string[];
  /** Largest message in bytes. A larger one closes the socket (1009). */
  maxPayload: number;
  /** Most fragments of one message. More close the socket (1008). */
  maxFragments?: number;
  /** How fast the messages of one socket are read, each in its own turn of the event loop. When not set, as fast as they arrive. */
  messageRate?: MessageRate;
  /** Most sockets of one actor at the same time. */
  perActor: number;
  /**
   * False refuses every request of a web page (one with `Origin`). True admits pages of allowed origins and takes their
   * credential also as a subprotocol or ticket. A bad credential is then refused after the upgrade, with an `error` message and
   * close code 1008, because a page cannot see why an upgrade failed.
   */
  browsers: boolean;
}

interface Attempt {
  request: IncomingMessage;
  stream: Duplex;
  head: Buffer;
  /** Headers that carry the credential. */
  credential: IncomingHttpHeaders;
  /** What its ticket is limited to. */
  grant: unknown;
  /** Set when a bad credential is refused over an opened socket. */
  talks: WebSocketServer | null;
}

interface Endpoint {
  options: SocketOptions;
  server: WebSocketServer;
  held: Set<Socket>;
  /** The number of sockets of each actor. */
  counts: Map<string, number>;
}

const BEAT_MS = 5000;
/** Most fragments of a message and received chunks of one fragment, because each takes memory beyond its bytes. */
const MAX_FRAGMENTS = 1024;
const MAX_CHUNKS = 4096;
/** Most sockets and handshakes of this process. */
const MAX_SOCKETS = 5000;
const MAX_HANDSHAKES = 1000;

/**
 * Nest's WebSocket adapter with the rules of this server. A client is authenticated before the upgrade completes, and is
 * refused with the ordinary error body. Compression is off. Messages, buffers and sockets per actor are bounded. Silent and
 * slow peers are disconnected, and so is a socket whose actor or credential loses rights.
 */
export class SocketAdapter extends WsAdapter {
  /** Endpoints by path, with the scopes that the path needs. */
  private readonly endpoints = new Map<string, { endpoint: Endpoint; anyOf: readonly string[] }>();
  private readonly beat = setInterval(() => this.beatAll(), BEAT_MS);
  private handshakes = 0;

  private readonly http: Server;
  private readonly gatekeeper: Gatekeeper;
  private readonly watch: CredentialWatch;
  private readonly limiter: RateLimiter;
  private readonly routes: KnownRoutes;
  private readonly observers: RequestObservers;
  private readonly tickets: SocketTickets;
  private readonly settings: Settings;
  /** False in a process that does not serve the API. */
  private readonly accepts: boolean;

  constructor(app: NestExpressApplication) {
    super(app);
    this.http = app.getHttpServer();
    this.gatekeeper = app.get(Gatekeeper);
    this.watch = app.get(CredentialWatch);
    this.limiter = app.get(RateLimiter);
    this.routes = app.get(KnownRoutes);
    this.observers = app.get(RequestObservers);
    this.tickets = app.get(SocketTickets);
    this.settings = app.get(Settings);
    this.accepts = this.settings.runsApi;
    this.http.on('upgrade', this.onUpgrade);
    this.beat.unref();
  }

  override create(_port: number, options: SocketOptions): WebSocketServer {
    const { path, aliases = [], anyOf, subprotocol, maxPayload, maxFragments = MAX_FRAGMENTS, messageRate } = options;
    const server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload,
      maxFragments,
      maxBufferedChunks: MAX_CHUNKS,
      allowSynchronousEvents: messageRate === undefined,
      handleProtocols: subprotocol === undefined ? chosenProtocol : () => subprotocol,
    });
    const endpoint: Endpoint = { options, server, held: new Set(), counts: new Map() };
    for (const one of [{ path }, ...aliases]) {
      const full = one.path.startsWith('/') ? one.path : `/${this.settings.apiPrefix}/${one.path}`;
      this.endpoints.set(full, { endpoint, anyOf, ...one });
      this.routes.addSocket(full);
    }
    return server;
  }

  /** Does nothing: gateways read the messages of a {@link Socket} themselves. */
  override bindMessageHandlers(): void {}

  override bindClientDisconnect(client: Socket, callback: (code: number) => void): void {
    client.onClose(callback);
  }

  override async close(server: WebSocketServer): Promise<void> {
    for (const endpoint of this.all()) {
      if (endpoint.server !== server) continue;
      const closed = [...endpoint.held].map(
        (socket) => new Promise<void>((resolve) => socket.onClose(() => resolve())),
      );
      for (const socket of endpoint.held) socket.close(CLOSE_GOING_AWAY, 'The server is stopping');
      await Promise.all(closed);
    }
  }

  override async dispose(): Promise<void> {
    clearInterval(this.beat);
    this.http.off('upgrade', this.onUpgrade);
    await Promise.resolve();
  }

  /** Each endpoint once, however many paths it has. */
  private all(): Set<Endpoint> {
    return new Set([...this.endpoints.values()].map(({ endpoint }) => endpoint));
  }

  private size(): number {
    let size = 0;
    for (const { held } of this.all()) size += held.size;
    return size;
  }

  private readonly onUpgrade = (request: IncomingMessage, stream: Duplex, head: Buffer): void => {
    stream.on('error', () => stream.destroy());
    if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
      serveWithoutUpgrade(this.http, request, stream, head);
      return;
    }
    const context: RequestContext = {
      requestId: requestIdOf(request.headers['x-request-id']),
      startedAt: performance.now(),
      ip: clientIp(request),
      userAgent: request.headers['user-agent'],
      method: 'GET',
      path: request.url?.split('?')[0],
    };
    this.handshakes++;
    void runInContext(context, async () => {
      let status = 101;
      const attempt: Attempt = { request, stream, head, credential: request.headers, grant: undefined, talks: null };
      try {
        await this.accept(context, attempt);
      } catch (error) {
        const headers: Record<string, string> = {};
        const sink = { setHeader: (name: string, value: string) => (headers[name] = value) };
        const shown = await this.limiter.refuse(context, attempt.credential, error, sink as unknown as HeaderSink);
        if (attempt.talks && isAppError(shown) && (shown.status === 401 || shown.status === 403)) {
          status = shown.status;
          attempt.talks.handleUpgrade(request, stream, head, (ws) => turnAway(ws, shown));
        } else {
          status = refuse(stream, { 'X-Request-ID': context.requestId, ...headers }, shown);
        }
      } finally {
        this.handshakes--;
      }
      const durationMs = performance.now() - context.startedAt;
      this.observers.finished({ context, status, durationMs, audit: 'minute' });
    });
  };

  private async accept(context: RequestContext, attempt: Attempt): Promise<void> {
    const { request, stream, head } = attempt;
    const found = this.accepts ? this.endpoints.get(context.path ?? '') : undefined;
    if (!found) throw this.routes.noSocket(context.path ?? '');
    const { endpoint, anyOf } = found;
    context.route = context.path;
    const { options, server } = endpoint;
    const { origin, 'sec-websocket-protocol': protocols } = request.headers;
    if (options.browsers ? !originAllowed(request, this.settings) : origin !== undefined) {
      throw AppError.forbidden(
        options.browsers ? 'Pages of this origin may not open this socket' : 'Web pages may not open this socket',
      );
    }
    if (options.subprotocol !== undefined && !offered(protocols).includes(options.subprotocol)) {
      throw AppError.validation({
        field: 'Sec-WebSocket-Protocol',
        issue: `must offer ${options.subprotocol}`,
        location: 'header',
      });
    }
    if (this.handshakes > MAX_HANDSHAKES || this.size() >= MAX_SOCKETS) {
      throw AppError.unavailable('Too many sockets', 5);
    }
    if (options.browsers) {
      attempt.talks = server;
      ({ headers: attempt.credential, grant: attempt.grant } = await credentialOf(
        request,
        this.tickets,
        this.settings,
      ));
    }
    const { credential, grant } = attempt;
    const actor = await this.identify(context, credential, endpoint, anyOf);
    if (stream.destroyed) return;
    server.handleUpgrade(request, stream, head, (ws) =>
      this.hold(endpoint, new Socket(ws, stream, actor, grant, options.messageRate), context, credential),
    );
  }

  private async identify(
    context: RequestContext,
    headers: IncomingHttpHeaders,
    { options, counts }: Endpoint,
    anyOf: readonly string[],
  ): Promise<Actor> {
    this.limiter.checkGuesses(context, headers);
    const actor = await this.gatekeeper.authenticate(headers, context.ip ?? '');
    context.actor = actor;
    authorize(actor, { public: false, anyOf });
    if ((counts.get(actor.id) ?? 0) >= options.perActor) {
      throw new AppError('rate_limited', `At most ${options.perActor} sockets at once`, { retryAfter: 5 });
    }
    return actor;
  }

  private hold(
    { server, held, counts }: Endpoint,
    socket: Socket,
    context: RequestContext,
    headers: IncomingHttpHeaders,
  ): void {
    const { actor } = socket;
    const { authorization, 'x-api-key': key } = headers;
    const holder = { actor, headers: { authorization, 'x-api-key': key }, ip: context.ip ?? '' };
    const unwatch = this.watch.watch(holder, (reason) => socket.close(CLOSE_POLICY, reason));
    held.add(socket);
    counts.set(actor.id, (counts.get(actor.id) ?? 0) + 1);
    socket.onClose(() => {
      unwatch();
      held.delete(socket);
      const rest = (counts.get(actor.id) ?? 1) - 1;
      if (rest > 0) counts.set(actor.id, rest);
      else counts.delete(actor.id);
    });
    server.emit('connection', socket, context);
  }

  private beatAll(): void {
    const now = Date.now();
    for (const { held } of this.all()) for (const socket of held) socket.beat(now);
  }
}
