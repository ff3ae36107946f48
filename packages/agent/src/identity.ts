import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AgentError, reasonOf } from './agent-error.js';
import type { AgentLog } from './log.js';
import { Backoff } from './backoff.js';
import { writeDurably } from './home.js';
import type { JoinRequest, JoinResponse } from './protocol.js';
import { withApiPath } from './server-url.js';

/** Who this agent is to one Nexus. Its API key is the only secret an agent has. */
export interface Identity extends Omit<JoinResponse, 'signing_key' | 'link_path'> {
  /** URL of the API. */
  url: string;
  /** Missing until the first welcome where no join said it. */
  signing_key?: string;
}

const JOIN_PATH = 'ai/agents/join';
const JOIN_TIMEOUT_MS = 15_000;
/** No join token lives longer. */
const JOIN_LIMIT_MS = 3_600_000;
const NONCE_FILE = 'join-nonce';
const NONCE = /^[A-Za-z0-9_-]{43}$/;

/** @throws AgentError when the file is there and cannot be used */
export function readIdentity(file: string): Identity | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (reasonOf(error) === 'ENOENT') return null;
    throw new AgentError(`${file} cannot be read (${reasonOf(error)})`);
  }
  const identity = parse(text) as Partial<Identity> | null;
  const { agent_id, agent_name, api_key, signing_key = 'none yet' } = identity ?? {};
  if (![agent_id, agent_name, api_key, signing_key].every(isText)) {
    throw new AgentError(`${file} is damaged: restore it, or remove it and join again with a new token`);
  }
  return { ...(identity as Identity), url: identity?.url ? withApiPath(identity.url) : '' };
}

/**
 * The nonce of this agent's join, which proves that a repeated join is its own. It is on disk before the first try, so that an agent that is killed before it has read the
 * answer can repeat the join at its next start.
 */
function joinNonce(file: string): string {
  try {
    const kept = readFileSync(file, 'utf8').trim();
    if (NONCE.test(kept)) return kept;
  } catch (error) {
    if (reasonOf(error) !== 'ENOENT') throw new AgentError(`${file} cannot be read (${reasonOf(error)})`);
  }
  const nonce = randomBytes(32).toString('base64url');
  writeDurably(file, `${nonce}\n`);
  return nonce;
}

/**
 * Trades a one-time token for a key of its own and keeps it before anything else happens. A server that is away or
 * overloaded, or whose answer was lost, is asked again with the same nonce until `signal` aborts or no token can be good any
 * more.
 * @param file keeps the identity
 * @throws AgentError with the server's own words when it refuses
 */
export async function joinNexus(
  url: string,
  request: Omit<JoinRequest, 'nonce'>,
  file: string,
  log: AgentLog,
  signal: AbortSignal,
  limitMs = JOIN_LIMIT_MS,
): Promise<Identity> {
  const nonceFile = path.join(path.dirname(file), NONCE_FILE);
  const nonce = joinNonce(nonceFile);
  const backoff = new Backoff();
  const until = performance.now() + limitMs;
  for (;;) {
    const answer = await post(url, { ...request, nonce }, signal);
    signal.throwIfAborted();
    if (answer.kind === 'joined') {
      const identity = { ...answer.response, url };
      writeIdentity(file, identity);
      rmSync(nonceFile, { force: true });
      return identity;
    }
    if (answer.kind === 'refused') throw new AgentError(`Nexus refused the join: ${answer.message}`);
    const ms = backoff.next();
    if (performance.now() + ms > until) throw new AgentError(`Nexus could not be joined: ${answer.message}`);
    log.warn('Nexus cannot be joined yet', { reason: answer.message, retry_ms: Math.round(ms) });
    await delay(ms, undefined, { signal });
  }
}

export function writeIdentity(file: string, identity: Identity): void {
  writeDurably(file, `${JSON.stringify(identity, null, 2)}\n`);
}

type Answer =
  | { kind: 'joined'; response: JoinResponse }
  | { kind: 'refused'; message: string }
  | { kind: 'later'; message: string };

async function post(url: string, request: JoinRequest, signal: AbortSignal): Promise<Answer> {
  let status: number;
  let body: unknown;
  try {
    const response = await fetch(`${url}/${JOIN_PATH}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(request),
      signal: AbortSignal.any([signal, AbortSignal.timeout(JOIN_TIMEOUT_MS)]),
      redirect: 'error',
    });
    status = response.status;
    body = parse(await response.text());
  } catch (error) {
    return { kind: 'later', message: reasonOf((error as Error).cause ?? error) };
  }
  const message = (body as { error?: { message?: unknown } } | null)?.error?.message;
  const words = typeof message === 'string' ? message : `status ${status}`;
  if (status >= 500 || status === 429 || status === 408) return { kind: 'later', message: words };
  if (status >= 300) return { kind: 'refused', message: words };
  const { agent_id, agent_name, api_key, signing_key } = (body ?? {}) as Partial<JoinResponse>;
  if (!isText(agent_id) || !isText(agent_name) || !isText(api_key) || !isText(signing_key)) {
    return { kind: 'refused', message: 'its answer is not one of Nexus (is the URL right?)' };
  }
  return { kind: 'joined', response: { agent_id, agent_name, api_key, signing_key } };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0;
}
