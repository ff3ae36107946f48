import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The nearest folder above this file with the workspace's lock file: true for the source and for its compiled copy. */
export const ROOT = findRoot(path.dirname(fileURLToPath(import.meta.url)));
const START_LIMIT_MS = 60_000;
/** Those of `npm start`. */
const NODE_FLAGS = ['--max-semi-space-size=32'];

function findRoot(folder: string): string {
  return existsSync(path.join(folder, 'package-lock.json')) ? folder : findRoot(path.dirname(folder));
}

/** A temporary data folder that the database's own account may cross. */
export function temporaryHome(): { path: string; remove(): void } {
  const home = mkdtempSync(path.join(os.tmpdir(), 'nexus-home-'));
  chmodSync(home, 0o755);
  return { path: home, remove: () => rmSync(home, { recursive: true, force: true, maxRetries: 5 }) };
}

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export interface NexusProcessOptions {
  home: string;
  port: number;
  /** Over the variables that tests set by default; an empty one counts as not set. */
  env?: Record<string, string>;
  /** Interpreter; default the one of the tests. */
  node?: string;
  /** Folder of the built server; default this checkout. */
  root?: string;
  /** Working folder, where `.env` is read; default the folder of the server. */
  cwd?: string;
  /** Account to run as; only root may choose. */
  uid?: number;
}

/** A real server process, started as a user starts it. */
export class NexusProcess {
  /** Key printed by the first start on this data folder. */
  apiKey: string | undefined;
  /** Everything written to standard error; nothing is expected on standard output. */
  output = '';
  /** Resolves with the exit code once the process is gone and its output is complete; null after a signal. */
  readonly exited: Promise<number | null>;

  private constructor(
    readonly child: ChildProcess,
    readonly url: string,
  ) {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.output = (this.output + text).slice(-200_000);
    });
    this.exited = once(child, 'close').then(([code]) => code as number | null);
  }

  /** Starts the process without waiting for the server in it. */
  static launch(options: NexusProcessOptions): NexusProcess {
    const root = options.root ?? ROOT;
    const child = spawn(options.node ?? process.execPath, [...NODE_FLAGS, path.join(root, 'dist/src/main.js')], {
      cwd: options.cwd ?? root,
      stdio: ['ignore', 'ignore', 'pipe'],
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
      env: {
        PATH: process.env.PATH,
        NEXUS_HOME: options.home,
        NEXUS_HOST: '127.0.0.1',
        PORT: String(options.port),
        NEXUS_LOG_LEVEL: 'warn',
        NEXUS_RATE_LIMITS: 'off',
        // The cluster of the tests does not wait for the disk.
        NEXUS_ALLOW_UNSAFE_DATABASE: 'true',
        ...options.env,
      },
    });
    return new NexusProcess(child, `http://127.0.0.1:${options.port}`);
  }

  /** Resolves once the server answers ready; rejects with its output when it ends instead. */
  static async start(options: NexusProcessOptions): Promise<NexusProcess> {
    const nexus = NexusProcess.launch(options);
    await nexus.says('is running', START_LIMIT_MS);
    nexus.apiKey = /API key +(nexus_\S+)/.exec(nexus.output)?.[1];
    return nexus;
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Resolves once `text` is in the output; rejects when the process ends instead or `limitMs` pass. */
  async says(text: string, limitMs = 20_000): Promise<void> {
    const end = Date.now() + limitMs;
    while (!this.output.includes(text)) {
      if (!this.alive || Date.now() > end) throw new Error(`the server did not say "${text}":\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** kill -9; resolves once the process is gone. */
  async kill(): Promise<void> {
    if (!this.alive) return;
    this.child.kill('SIGKILL');
    await once(this.child, 'exit');
  }

  /** SIGTERM; resolves with the exit code. */
  async stop(): Promise<number | null> {
    if (!this.alive) return this.child.exitCode;
    this.child.kill('SIGTERM');
    await once(this.child, 'exit');
    return this.child.exitCode;
  }
}

/** Live processes that name `text` in their command line, such as a data folder: its database server and its agent. */
export function processesNaming(text: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((entry) => {
      try {
        return readFileSync(`/proc/${entry}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}
