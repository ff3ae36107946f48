import type { IncomingMessage } from 'node:http';
import { fromTrustedProxy } from './client-ip.js';

const HOST = /^[A-Za-z0-9.:[\]-]{1,255}$/;

/**
 * The address by which the caller reached this server, such as `https://nexus.example`, from `X-Forwarded-Proto` and
 * `X-Forwarded-Host` of a trusted proxy, else from `Host`. A host with unusual characters becomes `localhost`, because the
 * address is inserted into shell commands.
 */
export function publicOrigin(request: IncomingMessage): string {
  const forwarded = (name: string): string | undefined =>
    fromTrustedProxy(request) ? lastOf(request.headers[name]) : undefined;
  const proto = forwarded('x-forwarded-proto')?.toLowerCase();
  const host = forwarded('x-forwarded-host') ?? request.headers.host ?? '';
  return `${proto === 'https' ? 'https' : 'http'}://${HOST.test(host) && URL.canParse(`http://${host}`) ? host : 'localhost'}`;
}

/** The last of several values: the nearest proxy has written it, while earlier ones may come from the client. */
function lastOf(header: string | string[] | undefined): string | undefined {
  return (
    String(header ?? '')
      .split(',')
      .at(-1)
      ?.trim() || undefined
  );
}
