import ipaddr from 'ipaddr.js';
import { ConfigError } from '../config/index.js';

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** Only 2000::/3 is global unicast; mapped, translated and site-local forms lie outside it. */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3');

/** Public by number, yet answered by the virtual machine's own platform (metadata and wire server of one cloud). */
const PLATFORM_ADDRESSES = new Set(['168.63.129.16']);

interface Rule {
  /** A host name, or a range of addresses. */
  name?: string;
  range?: [Address, number];
  /** Undefined: every port. */
  port?: number;
}

/**
 * Which targets user-supplied URLs may reach: public unicast addresses, and what the operator listed (host names, addresses
 * and CIDRs, each optionally with a port). A listed name is trusted wherever it points.
 */
export class AddressPolicy {
  private readonly rules: Rule[];

  /** @throws ConfigError naming the place in the list, not the value */
  constructor(allow: readonly string[]) {
    this.rules = allow.map((entry, index) => {
      const rule = parseRule(entry.trim().toLowerCase());
      if (!rule) {
        throw new ConfigError(`NEXUS_EGRESS_ALLOW: entry ${index + 1} is no host name, host:port, address or CIDR`);
      }
      return rule;
    });
  }

  get listsAddresses(): boolean {
    return this.rules.some(({ range }) => range);
  }

  /** Whether the host name itself is listed. */
  listsHost(host: string, port: number): boolean {
    return this.rules.some((rule) => rule.name === host && fits(rule, port));
  }

  /** Whether the address is listed by itself or in a range. */
  listsAddress(text: string, port: number): boolean {
    const address = read(text);
    if (!address) return false;
    return this.rules.some(
      (rule) => rule.range && fits(rule, port) && rule.range[0].kind() === address.kind() && address.match(rule.range),
    );
  }

  /** Whether the address belongs to the public internet. Text that is no address does not. */
  isPublic(text: string): boolean {
    const address = read(text);
    if (!address || address.range() !== 'unicast') return false;
    if (address instanceof ipaddr.IPv6) return address.match(GLOBAL_UNICAST);
    return !PLATFORM_ADDRESSES.has(address.toString());
  }
}

/** One spelling per address: mapped IPv4 becomes IPv4. Null for anything else, and for addresses with a zone. */
export function canonicalAddress(text: string): string | null {
  return read(text)?.toNormalizedString() ?? null;
}

/** `::1.2.3.4`, long deprecated; ipaddr.js would take it for the mapped `::ffff:1.2.3.4`. */
const COMPATIBLE = /^::\d+\.\d+\.\d+\.\d+$/;

function read(text: string): Address | null {
  if (text.includes('%') || COMPATIBLE.test(text)) return null;
  const strict = ipaddr.IPv4.isValidFourPartDecimal(text) || (text.includes(':') && ipaddr.IPv6.isValid(text));
  return strict ? ipaddr.process(text) : null;
}

function fits(rule: Rule, port: number): boolean {
  return rule.port === undefined || rule.port === port;
}

function parseRule(entry: string): Rule | null {
  if (entry.includes('/')) return ipaddr.isValidCIDR(entry) ? { range: ipaddr.parseCIDR(entry) } : null;
  const bare = read(entry);
  if (bare) return { range: single(bare) };
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(entry);
  const port = match?.[2] === undefined ? undefined : Number(match[2]);
  if (!match || (port !== undefined && (port < 1 || port > 65_535))) return null;
  const address = read(match[1].replace(/^\[|\]$/g, ''));
  if (address) return { range: single(address), port };
  return /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/.test(match[1]) && !/^[\d.]+$/.test(match[1])
    ? { name: match[1], port }
    : null;
}

function single(address: Address): [Address, number] {
  return [address, address.kind() === 'ipv4' ? 32 : 128];
}
