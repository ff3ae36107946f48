import { AgentError } from './agent-error.js';

/**
 * The URL of the API without a slash at its end; where only the server is named, its API is under the default prefix.
 * @throws AgentError when there is none, and on `http://` to another machine unless `insecureHttp` allows it
 */
export function apiUrl(url: string | undefined, insecureHttp = false): string {
  if (!url) throw new AgentError('The agent does not know where Nexus is: give --url');
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new AgentError(`${url} is not a URL`);
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    throw new AgentError('The URL must begin with http:// or https://');
  }
  if (parsed.protocol === 'http:' && !insecureHttp && !isLoopback(parsed.hostname)) {
    throw new AgentError(
      `${parsed.origin} is another machine, and http:// would show it to everybody on the way: use https://, or allow it with --insecure-http`,
    );
  }
  return withApiPath(`${parsed.origin}${parsed.pathname}`);
}

/** Adds the default prefix to a URL without a path. */
export function withApiPath(url: string): string {
  const bare = url.replace(/\/+$/, '');
  return /^https?:\/\/[^/]+$/.test(bare) ? `${bare}/api/v1` : bare;
}

/** @param hostname as `URL` writes it: IPv4 addresses in four numbers, IPv6 ones in brackets */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);
}
