import { isIPv4 } from 'node:net';
import ipaddr from 'ipaddr.js';

const IPV6_BITS = 64;
const IPV4_BITS = 32;

/**
 * The network that stands for an address where addresses are counted, limited or banned: the IPv4 address itself, or the /64 network
 * of an IPv6 address, because one client usually owns all of it.
 * @param ipv4Bits a shorter prefix also groups IPv4 addresses
 */
export function networkOf(ip: string | undefined, ipv4Bits = IPV4_BITS): string {
  // A shortcut for most addresses, since every request calls this.
  if (ipv4Bits === IPV4_BITS && ip !== undefined && isIPv4(ip)) return ip;
  if (ip === undefined || !ipaddr.isValid(ip)) return 'unknown';
  const address = ipaddr.process(ip);
  if (address instanceof ipaddr.IPv6) {
    return `${ipaddr.IPv6.networkAddressFromCIDR(`${address.toString()}/${IPV6_BITS}`).toString()}/${IPV6_BITS}`;
  }
  if (ipv4Bits === IPV4_BITS) return address.toString();
  return `${ipaddr.IPv4.networkAddressFromCIDR(`${address.toString()}/${ipv4Bits}`).toString()}/${ipv4Bits}`;
}
