import { lookup, Resolver } from 'node:dns/promises';
import type { Socket } from 'node:net';
import { buildConnector } from 'undici';
import { type AddressPolicy, canonicalAddress } from './address-policy.js';
import { EgressError } from './egress-error.js';
import { isLocalName, type Target } from './target.js';

interface ResolvedAddress {
  address: string;
  family: 4 | 6;
}

export type ResolveHost = (host: string) => Promise<ResolvedAddress[]>;

/** Opens one connection to exactly this address; `secure` ones are verified against the target's host. */
export type OpenSocket = (target: Target, address: string) => Promise<Socket>;

/**
 * The system's view for local names (hosts file); DNS itself for the rest, off the shared thread pool.
 * @param servers DNS servers instead of the system's
 */
export function systemResolver(servers?: string[]): ResolveHost {
  const dns = new Resolver({ timeout: 2000, tries: 2 });
  if (servers) dns.setServers(servers);
  return async (host) => {
    if (isLocalName(host)) {
      return (await lookup(host, { all: true })).map(({ address, family }) => ({
        address,
        family: family === 6 ? 6 : 4,
      }));
    }
    const [v4, v6] = await Promise.allSettled([dns.resolve4(host), dns.resolve6(host)]);
    const answers: ResolvedAddress[] = [];
    if (v4.status === 'fulfilled') answers.push(...v4.value.map((address) => ({ address, family: 4 as const })));
    if (v6.status === 'fulfilled') answers.push(...v6.value.map((address) => ({ address, family: 6 as const })));
    if (answers.length === 0 && v4.status === 'rejected') throw v4.reason;
    return answers;
  };
}

/** undici's connector (TLS always verified, sessions resumed), given an address instead of a name: it resolves nothing. */
export function systemSockets(timeoutMs: number, ca?: string): OpenSocket {
  const connect = buildConnector({ timeout: timeoutMs, rejectUnauthorized: true, ...(ca === undefined ? {} : { ca }) });
  return (target, address) =>
    new Promise((resolve, reject) => {
      const to = {
        hostname: address,
        host: target.host.includes(':') ? `[${target.host}]` : target.host,
        protocol: target.secure ? 'https:' : 'http:',
        port: String(target.port),
        servername: target.isAddress ? undefined : target.host,
      };
      connect(to, (error, socket) => (error ? reject(error) : resolve(socket)));
    });
}

/**
 * The addresses of a target, all of them checked.
 * @throws EgressError `BLOCKED` when any is not allowed, `DNS` when there is none
 */
export async function checkedAddresses(target: Target, policy: AddressPolicy, resolve: ResolveHost): Promise<string[]> {
  const { host, port, secure, isAddress } = target;
  let addresses = [host];
  if (!isAddress) {
    try {
      addresses = (await resolve(host)).map(({ address }) => address);
    } catch (cause) {
      throw new EgressError('DNS', 'the host name does not resolve', cause);
    }
    if (addresses.length === 0) throw new EgressError('DNS', 'the host name does not resolve');
  }
  const byName = !isAddress && policy.listsHost(host, port);
  for (const address of addresses) {
    if (canonicalAddress(address) !== null && (byName || policy.listsAddress(address, port))) continue;
    if (!policy.isPublic(address)) {
      throw new EgressError(
        'BLOCKED',
        `${isAddress ? 'the address is' : 'the host name resolves to an address that is'} not public`,
      );
    }
    if (!secure) throw new EgressError('BLOCKED', 'public addresses are reached by https:// only');
  }
  return addresses;
}

/**
 * Connects to the first of the checked addresses that answers, and makes sure that it is the one at the other end.
 * @param timeoutMs for all attempts together
 * @param signal ends the attempts; a connection that opens later is closed at once
 */
export async function connectPinned(
  target: Target,
  addresses: string[],
  open: OpenSocket,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const deadline = performance.now() + timeoutMs;
  const tried = addresses.slice(0, MAX_ATTEMPTS);
  let failure: unknown;
  for (const [index, address] of tried.entries()) {
    // Half of what is left, so that one silent address does not hide the next.
    const left = deadline - performance.now();
    const share = index === tried.length - 1 ? left : left / 2;
    if (signal.aborted || share <= 0) break;
    let socket: Socket;
    try {
      socket = await within(share, open(target, address), signal);
    } catch (error) {
      failure = error;
      continue;
    }
    if (canonicalAddress(socket.remoteAddress ?? '') === canonicalAddress(address)) return socket;
    socket.destroy();
    throw new EgressError('BLOCKED', 'the connection reached another address than the one checked');
  }
  throw connectionError(failure, target.secure);
}

const MAX_ATTEMPTS = 4;
/** Codes of failures below TLS; on a secure target any other failure is a failure of TLS. */
const BELOW_TLS = /^(ECONN|EHOST|ENET|EADDR|ETIMEDOUT|EPIPE|EACCES|EPERM|EMFILE|UND_ERR_CONNECT)/;

function connectionError(cause: unknown, secure: boolean): EgressError {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? 'ETIMEDOUT';
  return secure && !BELOW_TLS.test(code)
    ? new EgressError('TLS', `no secure connection (${code})`, cause)
    : new EgressError('CONNECT', `no connection (${code})`, cause);
}

function within(ms: number, opening: Promise<Socket>, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    let over = false;
    const giveUp = (): void => {
      over = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      reject(new EgressError('CONNECT', 'no connection in time'));
    };
    const timer = setTimeout(giveUp, ms);
    signal.addEventListener('abort', giveUp);
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      finish();
    };
    opening.then(
      (socket) => (over ? void socket.destroy() : settle(() => resolve(socket))),
      (error: unknown) => settle(() => reject(error instanceof Error ? error : new Error(String(error)))),
    );
  });
}
