import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { eventually } from './eventually.js';
import { freePort } from './nexus-process.js';

/** False where Debian's `pgbouncer` is not installed (see scripts/install-test-packages.sh). */
export const pgbouncerInstalled = spawnSync('pgbouncer', ['--version']).status === 0;

/** Account `nobody`: PgBouncer refuses to run as root. */
const NOBODY = 65_534;

/** A real PgBouncer of the test's own, on loopback, in front of one database. */
export class PgBouncer {
  private constructor(
    /** Of the database, through the pooler. */
    readonly url: string,
    private readonly child: ChildProcess,
    private readonly folder: string,
  ) {}

  static async start(databaseUrl: string, mode: string, poolSize: number): Promise<PgBouncer> {
    const port = await freePort();
    const target = new URL(databaseUrl);
    const account = `user=${target.username} password=${decodeURIComponent(target.password)}`;
    const folder = mkdtempSync(path.join(os.tmpdir(), 'nexus-pgbouncer-'));
    chmodSync(folder, 0o755);
    const file = path.join(folder, 'pgbouncer.ini');
    writeFileSync(
      file,
      `[databases]
* = host=${target.hostname} port=${target.port} ${account}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
default_pool_size = ${poolSize}
max_client_conn = 500
`,
    );
    const identity = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
    const child = spawn('pgbouncer', ['--quiet', file], { stdio: 'ignore', ...identity });
    const url = new URL(databaseUrl);
    url.host = `127.0.0.1:${port}`;
    await eventually(() => answers(url.href));
    return new PgBouncer(url.href, child, folder);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
      await once(this.child, 'exit');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}
