import { isIP } from 'node:net';

/** A checked URL, taken apart. */
export interface Target {
  secure: boolean;
  /** Host name in lower case, punycode, no final dot; or an address without brackets. */
  host: string;
  isAddress: boolean;
  port: number;
  /** Scheme, host and port. */
  origin: string;
  /** Path and query. */
  path: string;
}

const LONGEST_URL = 2048;

/**
 * Takes a user-supplied URL apart. Stricter than the URL standard, so that no other reader of the same text sees another host:
 * no credentials, no backslashes, blanks or control characters, a plain `//`.
 * @returns the target, or the reason for refusing it
 */
export function parseTarget(text: string): Target | string {
  if (text.length > LONGEST_URL) return `must have at most ${LONGEST_URL} characters`;
  if (/[\s\\\p{Cc}\p{Cf}\p{Surrogate}]/u.test(text)) {
    return 'must not contain blanks, backslashes or control characters';
  }
  const authority = /^https?:\/\/([^/?#]+)/i.exec(text)?.[1];
  if (authority === undefined) return 'must be an absolute https:// URL';
  if (authority.includes('@')) return 'must not contain a user name or password';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return 'is not a valid URL';
  }
  const secure = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port);
  if (host === '' || host.startsWith('.') || host.includes('..') || host.length > 253) return 'has no valid host name';
  if (port === 0) return 'has no valid port';
  const isAddress = isIP(host) !== 0;
  const shown = host.includes(':') ? `[${host}]` : host;
  return {
    secure,
    host,
    isAddress,
    port,
    origin: `${url.protocol}//${shown}:${port}`,
    path: url.pathname + url.search,
  };
}

/** Names that only ever mean something inside a machine or a network (RFC 6761, 6762, 8375, and bare words). */
export function isLocalName(host: string): boolean {
  return (
    !host.includes('.') || /\.(localhost|local|internal|intranet|lan|home|corp|localdomain|home\.arpa)$/.test(host)
  );
}
