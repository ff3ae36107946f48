import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { INestApplication } from '@nestjs/common';
import type { JoinResponse } from '@nexus/agent/protocol';
import { AgentsService } from './agents/index.js';
import type { Settings } from './platform/config/index.js';
import { parsePublicId, publicId } from './platform/ids/index.js';
import { Logger } from './platform/observability/index.js';

const NAME = 'local';
const LABELS = { env: 'development', group: 'local' };
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** An agent that ran this long was fine: the next failure starts from the first pause. */
const STEADY_MS = 60_000;
/** A program that ignores SIGTERM takes the agent 6.5 s to end. */
const STOP_LIMIT_MS = 8000;
/** The agent's exit code when another process runs with its key: starting it again would only take turns with that one. */
const EXIT_REPLACED = 3;
/** What the agent gets of this process's environment: no secret of the server is in it. */
const ENVIRONMENT = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'NODE_EXTRA_CA_CERTS'];

interface Identity extends Omit<JoinResponse, 'link_path'> {
  url: string;
}

/** Runs the agent `local` for the machine Nexus runs on, as a supervised child process, until `stop`. */
export async function startLocalAgent({
  settings,
  port,
  app,
}: {
  settings: Settings;
  port: number;
  app: Pick<INestApplication, 'get'>;
}): Promise<{ stop(): Promise<void> }> {
  const logger = app.get(Logger);
  const agent = new LocalAgent(path.join(settings.home, 'local-agent'), urlOf(settings, port), app, logger);
  await agent.begin();
  return agent;
}

class LocalAgent {
  private child: ChildProcess | undefined;
  private retry: NodeJS.Timeout | undefined;
  private pauseMs = FIRST_PAUSE_MS;
  private stopped = false;

  constructor(
    private readonly home: string,
    private readonly url: string,
    private readonly app: Pick<INestApplication, 'get'>,
    private readonly logger: Logger,
  ) {}

  /** A failure is logged and tried again: the server works without this agent. */
  async begin(): Promise<void> {
    await this.start().catch((error: unknown) => {
      if (this.stopped) return;
      this.logger.warn({ err: String(error) }, 'The local agent could not be started');
      this.again();
    });
  }

  private async start(): Promise<void> {
    const { entry, version } = runtime();
    await this.ensureIdentity(version);
    if (this.stopped) return;
    // The key stays in its file: neither arguments nor the environment of a process are a place for it. The open channel
    // tells the agent when this process is gone, however it ends.
    const config = path.join(this.home, 'config.json');
    // The address may be one of the network's, but it is always this machine.
    const args = ['--url', this.url, '--insecure-http', '--home', this.home, '--name', NAME];
    const child = spawn(process.execPath, [entry, ...args, ...(existsSync(config) ? ['--config', config] : [])], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: Object.fromEntries(ENVIRONMENT.map((name) => [name, process.env[name]])),
    });
    this.child = child;
    const startedAt = Date.now();
    let lastLine = '';
    if (child.stderr) {
      createInterface({ input: child.stderr }).on('line', (line) => {
        lastLine = line;
        this.logger.debug({ agent: NAME }, line);
      });
    }
    child.once('error', (error) => (lastLine = error.message));
    child.once('close', (code, signal) => {
      if (this.stopped) return;
      const fields = { code, signal, last: lastLine };
      if (code === EXIT_REPLACED) {
        this.logger.warn(fields, 'Another process runs as the local agent; this one stays away');
        return;
      }
      if (Date.now() - startedAt > STEADY_MS) this.pauseMs = FIRST_PAUSE_MS;
      this.logger.warn({ ...fields, retry_ms: this.pauseMs }, 'The local agent ended and is started again');
      this.again();
    });
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.retry);
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const hard = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
    child.kill('SIGTERM');
    await once(child, 'exit');
    clearTimeout(hard);
  }

  private again(): void {
    this.retry = setTimeout(() => void this.begin(), this.pauseMs);
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
  }

  /** Leaves a valid identity in the agent's home: the one that is there, or a new one (also after a reset of the database). */
  private async ensureIdentity(version: string): Promise<void> {
    const file = path.join(this.home, 'identity.json');
    const found = readIdentity(file);
    const agentId = found && parsePublicId('agent', found.agent_id);
    const {
      agentId: id,
      key,
      signingKey,
    } = await this.app
      .get(AgentsService, { strict: false })
      .ensureHost({ name: NAME, version, labels: LABELS }, agentId ? { agentId, key: found.api_key } : null);
    const identity: Identity = {
      agent_id: publicId('agent', id),
      agent_name: NAME,
      api_key: key,
      url: this.url,
      signing_key: signingKey,
    };
    if (found?.api_key === key && found.url === this.url && found.signing_key === signingKey) return;
    mkdirSync(this.home, { recursive: true, mode: 0o700 });
    const fresh = `${file}.new`;
    writeFileSync(fresh, `${JSON.stringify(identity, null, 2)}\n`, { mode: 0o600, flush: true });
    renameSync(fresh, file);
  }
}

function readIdentity(file: string): Identity | null {
  try {
    const identity = JSON.parse(readFileSync(file, 'utf8')) as Partial<Identity> | null;
    return typeof identity?.agent_id === 'string' && typeof identity.api_key === 'string'
      ? (identity as Identity)
      : null;
  } catch {
    return null;
  }
}

/** The command of the installed agent package. */
function runtime(): { entry: string; version: string } {
  const manifest = createRequire(import.meta.url).resolve('@nexus/agent/package.json');
  const { bin, version } = JSON.parse(readFileSync(manifest, 'utf8')) as {
    bin: Record<string, string>;
    version: string;
  };
  return { entry: path.join(path.dirname(manifest), bin['nexus-agent']), version };
}

/** URL of the API for programs of this machine. */
function urlOf({ host, apiPrefix }: Settings, port: number): string {
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}/${apiPrefix}`;
}
