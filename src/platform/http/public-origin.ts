import type { IncomingMessage } from 'node:http';
import { fromTrustedProxy } from './client-ip.js';

const HOST = /^[A-Za-z0-9.:[\]-]{1,255}$/;

/**
 * The address by which the caller reached this server, such as `https://nexus.example`: what a trusted proxy says in
 * `X-Forwarded-Proto` and `X-Forwarded-Host`, else `Host`. A host with anything unusual in it becomes `localhost`: the
 * address ends up in lines for a shell.
 */
export function publicOrigin(request: IncomingMessage): string {
  const forwarded = (name: string): string | undefined =>
    fromTrustedProxy(request) ? lastOf(request.headers[name]) : undefined;
  const proto = forwarded('x-forwarded-proto')?.toLowerCase();
  const host = forwarded('x-forwarded-host') ?? request.headers.host ?? '';
  return `${proto === 'https' ? 'https' : 'http'}://${HOST.test(host) && URL.canParse(`http://${host}`) ? host : 'localhost'}`;
}

/** Of several values the last one: the nearest proxy has written it, those before may be the client's own. */
function lastOf(header: string | string[] | undefined): string | undefined {
  return (
    String(header ?? '')
      .split(',')
      .at(-1)
      ?.trim() || undefined
  );
}
