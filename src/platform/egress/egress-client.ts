import type { Socket } from 'node:net';
import { Client, errors } from 'undici';
import { AppError } from '../errors/index.js';
import { AddressPolicy } from './address-policy.js';
import { EgressError } from './egress-error.js';
import { HostGate } from './host-gate.js';
import {
  checkedAddresses,
  connectPinned,
  type OpenSocket,
  type ResolveHost,
  systemResolver,
  systemSockets,
} from './pinned-connection.js';
import { isLocalName, parseTarget, type Target } from './target.js';

export interface EgressOptions {
  /** Host names, host:port, addresses and CIDRs that may be reached besides public addresses. */
  allow: readonly string[];
  /** `false`: https only, for listed targets too. Public targets are https only in any case. */
  allowHttp?: boolean;
  /** Milliseconds until the connection (TLS included) must stand. */
  connectTimeoutMs?: number;
  /** Milliseconds for everything, from the name to the last byte of the body. */
  totalTimeoutMs?: number;
  /** Bytes of a response body that are kept; the connection is cut beyond them. */
  maxResponseBytes?: number;
  /** Requests to one host at once. */
  maxPerHost?: number;
  /** Network failures in a row after which a host is left alone for `circuitOpenMs`. */
  failureLimit?: number;
  circuitOpenMs?: number;
  /** Trusted roots instead of the built-in ones, PEM. */
  ca?: string;
  resolver?: ResolveHost;
  openSocket?: OpenSocket;
}

export interface EgressRequest {
  method: string;
  url: string;
  headers?: Record<string, string>;
  body?: Buffer | string;
  /** Instead of `totalTimeoutMs`. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface EgressResponse {
  status: number;
  /** Names in lower case; repeated ones joined by a comma. */
  headers: Record<string, string>;
  /** As it came over the wire, at most `maxResponseBytes`. */
  body: Buffer;
  /** Whether there was more body than kept. */
  truncated: boolean;
  durationMs: number;
  remoteAddress: string;
}

/** Set by the client itself; from elsewhere they could smuggle a second request or name another host. */
const OWN_HEADERS = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const HEAD_BYTES = 16_384;
const UNWELL = new Set(['DNS', 'CONNECT', 'TLS', 'TIMEOUT', 'PROTOCOL', 'TOO_LARGE']);

/**
 * The only client for URLs that users supply, as a protection against SSRF. Each request resolves the name once, checks every answer, connects to a
 * checked address and nothing else, checks the peer, verifies TLS, follows no redirect, and is bounded in time and size.
 */
export class EgressClient {
  private readonly policy: AddressPolicy;
  private readonly gate: HostGate;
  private readonly resolve: ResolveHost;
  private readonly open: OpenSocket;
  private readonly connectTimeoutMs: number;
  private readonly totalTimeoutMs: number;
  private readonly maxResponseBytes: number;
  private readonly running = new Map<AbortController, Promise<unknown>>();
  private closed = false;

  /** @throws ConfigError when the allow-list cannot be read */
  constructor(private readonly o: EgressOptions) {
    this.connectTimeoutMs = o.connectTimeoutMs ?? 3000;
    this.totalTimeoutMs = o.totalTimeoutMs ?? 15_000;
    this.maxResponseBytes = o.maxResponseBytes ?? 65_536;
    this.policy = new AddressPolicy(o.allow);
    this.gate = new HostGate({
      maxPerHost: o.maxPerHost ?? 16,
      failureLimit: o.failureLimit ?? 5,
      openMs: o.circuitOpenMs ?? 30_000,
    });
    this.resolve = o.resolver ?? systemResolver();
    this.open = o.openSocket ?? systemSockets(this.connectTimeoutMs, o.ca);
  }

  /**
   * Checks a URL when it is registered. A public name that does not resolve now is accepted: every request checks again.
   * @throws AppError `validation` naming the field
   */
  async assertAllowed(url: string, field: string): Promise<void> {
    const issue = await this.objection(url);
    if (issue !== null) throw AppError.validation({ field, issue, expected: 'a public https:// URL' });
  }

  /**
   * Sends one request on a connection of its own.
   * @throws EgressError for everything that kept a response from coming; the signal's own reason when the caller aborted
   */
  async request(o: EgressRequest): Promise<EgressResponse> {
    if (this.closed) throw new EgressError('BUSY', 'outgoing requests are shut down');
    const target = parseTarget(o.url);
    if (typeof target === 'string') throw new EgressError('BLOCKED', `the URL ${target}`);
    for (const name of Object.keys(o.headers ?? {})) {
      if (OWN_HEADERS.has(name.toLowerCase())) throw new EgressError('PROTOCOL', `the header ${name} cannot be set`);
    }
    o.signal?.throwIfAborted();
    return this.gate.run(
      `${target.host}:${target.port}`,
      () => this.bounded(target, o),
      (error) => error instanceof EgressError && UNWELL.has(error.code),
    );
  }

  /** Ends what is running and refuses what comes. */
  async close(): Promise<void> {
    this.closed = true;
    for (const controller of this.running.keys()) {
      controller.abort(new EgressError('BUSY', 'outgoing requests are shut down'));
    }
    await Promise.allSettled(this.running.values());
  }

  private async objection(url: string): Promise<string | null> {
    const target = parseTarget(url);
    if (typeof target === 'string') return target;
    const listed = this.policy.listsHost(target.host, target.port);
    if (!target.secure && this.o.allowHttp === false) return 'must be an https:// URL';
    const timeout = AbortSignal.timeout(this.connectTimeoutMs);
    try {
      await untilAborted(checkedAddresses(target, this.policy, this.resolve), timeout);
      return null;
    } catch (error) {
      if (error instanceof EgressError && error.code === 'BLOCKED') return `cannot be used: ${error.message}`;
      if (listed) return null;
      if (isLocalName(target.host)) return 'cannot be used: the host is not public';
      return target.secure || this.policy.listsAddresses ? null : 'must be an https:// URL';
    }
  }

  /** Runs the exchange under one clock that covers all of it, so that no slow step escapes. */
  private async bounded(target: Target, o: EgressRequest): Promise<EgressResponse> {
    const controller = new AbortController();
    const limit = o.timeoutMs ?? this.totalTimeoutMs;
    const timer = setTimeout(
      () => controller.abort(new EgressError('TIMEOUT', `no complete answer within ${limit} ms`)),
      limit,
    );
    const forward = (): void => controller.abort(o.signal?.reason);
    o.signal?.addEventListener('abort', forward);
    const exchange = this.exchange(target, o, controller.signal);
    this.running.set(controller, exchange);
    try {
      return await exchange;
    } catch (error) {
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      clearTimeout(timer);
      o.signal?.removeEventListener('abort', forward);
      this.running.delete(controller);
    }
  }

  private async exchange(target: Target, o: EgressRequest, signal: AbortSignal): Promise<EgressResponse> {
    const started = performance.now();
    if (!target.secure && this.o.allowHttp === false) {
      throw new EgressError('BLOCKED', 'only https:// URLs are allowed');
    }
    const addresses = await untilAborted(checkedAddresses(target, this.policy, this.resolve), signal);
    const socket = await connectPinned(target, addresses, this.open, this.connectTimeoutMs, signal);
    const remoteAddress = socket.remoteAddress ?? '';
    const client = new Client(target.origin, {
      // In a microtask: the client does not expect an answer within its own call.
      connect: (_options, done) =>
        queueMicrotask(() => (socket.destroyed ? done(new Error('connection lost'), null) : done(null, socket))),
      maxHeaderSize: HEAD_BYTES,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    try {
      const { statusCode, headers, body } = await client.request({
        method: o.method,
        path: target.path,
        headers: { 'user-agent': 'nexus', ...o.headers },
        body: o.body,
        reset: true,
        signal,
      });
      const { bytes, truncated } = await readUpTo(body, this.maxResponseBytes);
      return {
        status: statusCode,
        headers: Object.fromEntries(
          Object.entries(headers).map(([k, v]) => [k, Array.isArray(v) ? v.join(', ') : (v ?? '')]),
        ),
        body: bytes,
        truncated,
        durationMs: Math.round(performance.now() - started),
        remoteAddress,
      };
    } catch (cause) {
      if (cause instanceof errors.HeadersOverflowError) {
        throw new EgressError('TOO_LARGE', `the response head is larger than ${HEAD_BYTES} bytes`, cause);
      }
      throw new EgressError('PROTOCOL', 'the host gave no complete HTTP answer', cause);
    } finally {
      await discard(client, socket);
    }
  }
}

async function readUpTo(body: AsyncIterable<Buffer>, limit: number): Promise<{ bytes: Buffer; truncated: boolean }> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > limit) break;
  }
  return { bytes: Buffer.concat(chunks, Math.min(size, limit)), truncated: size > limit };
}

async function discard(client: Client, socket: Socket): Promise<void> {
  socket.destroy();
  await client.destroy();
}

/** The work's result, or the signal's reason as soon as it comes; what the work does afterwards is ignored. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
