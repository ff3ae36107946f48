import { readFileSync } from 'node:fs';
import path from 'node:path';

/** Where the embedded database of a running server listens. */
export function embeddedUrl(home: string): string {
  const port = readFileSync(path.join(home, 'pg', 'postmaster.pid'), 'utf8').split('\n')[3];
  const password = readFileSync(path.join(home, 'pg-password'), 'utf8').trim();
  return `postgres://nexus:${password}@127.0.0.1:${port}/nexus`;
}
