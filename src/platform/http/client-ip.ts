import type { IncomingMessage, Server } from 'node:http';
import ipaddr from 'ipaddr.js';

type Range = ReturnType<typeof ipaddr.parseCIDR>;

const trusted = new WeakMap<object, Range[]>();

/** Makes this server trust `X-Forwarded-*` headers of proxies in these networks. */
export function trustProxies(server: Server, cidrs: readonly string[]): void {
  trusted.set(
    server,
    cidrs.map((cidr) => (cidr.includes('/') ? ipaddr.parseCIDR(cidr) : single(cidr))),
  );
}

/**
 * The address of the client, with IPv4-mapped IPv6 as IPv4: the peer, or, when the peer is a trusted proxy, the last address of
 * `X-Forwarded-For` that is not a trusted proxy. Addresses that the client itself writes into that header are never used.
 */
export function clientIp(request: IncomingMessage): string {
  const peer = peerOf(request);
  const ranges = rangesOf(request);
  const forwarded = request.headers['x-forwarded-for'];
  if (ranges.length === 0 || forwarded === undefined || !within(peer, ranges)) return peer;
  let client = peer;
  for (const hop of String(forwarded).split(',').reverse()) {
    const address = plain(hop.trim());
    if (!ipaddr.isValid(address)) break;
    client = address;
    if (!within(address, ranges)) break;
  }
  return client;
}

/** True when the request comes from a proxy whose `X-Forwarded-*` headers are trusted. */
export function fromTrustedProxy(request: IncomingMessage): boolean {
  return within(peerOf(request), rangesOf(request));
}

/** True when a peer of this server is one of its trusted proxies. */
export function isTrustedProxy(server: Server, peer: string | undefined): boolean {
  return within(plain(peer ?? ''), trusted.get(server) ?? []);
}

function peerOf(request: IncomingMessage): string {
  return plain(request.socket.remoteAddress ?? 'unknown');
}

function rangesOf(request: IncomingMessage): Range[] {
  const server = (request.socket as { server?: object }).server;
  return server ? (trusted.get(server) ?? []) : [];
}

function within(address: string, ranges: Range[]): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  return ranges.some(([network, bits]) => network.kind() === parsed.kind() && parsed.match(network, bits));
}

function single(address: string): Range {
  const parsed = ipaddr.parse(address);
  return [parsed, parsed.kind() === 'ipv4' ? 32 : 128];
}

function plain(address: string): string {
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}
