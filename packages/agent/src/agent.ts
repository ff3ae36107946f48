import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type AgentConfig, defaultConfig } from './agent-config.js';
import { AgentError, reasonOf } from './agent-error.js';
import { parseSigningKey } from './command-check.js';
import { CommandDesk } from './command-desk.js';
import { Home } from './home.js';
import { type Identity, joinNexus, readIdentity, writeIdentity } from './identity.js';
import { Link } from './link.js';
import { type AgentLog, silentLog } from './log.js';
import { SystemMetrics } from './metrics.js';
import { type AgentFrame, PROTOCOL_VERSION, type ServerFrame, type TelemetryEventFrame } from './protocol.js';
import { apiUrl } from './server-url.js';
import { Spool } from './spool.js';
import { Telemetry } from './telemetry.js';

export interface AgentOptions {
  /** URL of the API, or of a server with the default prefix; without it the one this home joined. */
  url?: string;
  /** Allows `http://` to another machine: whoever is on the way reads the key. */
  insecureHttp?: boolean;
  /** Folder of identity, ledger, output and spool. Needed unless `ephemeral`. */
  home?: string;
  /** Keeps everything in a temporary folder that goes with the agent, and syncs nothing: for tests and load. */
  ephemeral?: boolean;
  /** One-time token; used only while the home has no identity. */
  join?: string;
  /** An issued key, instead of the one in the home; it is not written down. */
  key?: string;
  /** Public key that checks commands: goes with `key`, and overrules the one in the home. */
  signingKey?: string;
  /** Name asked for at the join; the server may choose another. The host's name unless given. */
  name?: string;
  labels?: Record<string, string>;
  config?: AgentConfig;
  /** Milliseconds between samples of this host's figures; 0 takes none. Default 10 s. */
  intervalMs?: number;
  log?: AgentLog;
}

interface AgentEvents {
  connected: [];
  disconnected: [];
  /** Another agent with the same key took over; this one has stopped trying. */
  replaced: [];
}

export const VERSION = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

const DEFAULT_INTERVAL_MS = 10_000;
const IDENTITY_FILE = 'identity.json';
const FAREWELL_MS = 2000;
/** So many ids say as much as all of them: Nexus draws no conclusion from what a long list leaves out. */
const MOST_UNFINISHED = 1500;

/** One agent: its link, its telemetry and its commands. Many can live in one process. */
export class Agent extends EventEmitter<AgentEvents> {
  private readonly bootId = randomUUID();
  private readonly stopSignal = new AbortController();
  private readonly log: AgentLog;
  private readonly config: AgentConfig;
  private readonly metrics = new SystemMetrics(os.hostname());
  private home: Home | undefined;
  private identity: Identity | undefined;
  private link: Link | undefined;
  private spool: Spool | undefined;
  private telemetry: Telemetry | undefined;
  private desk: CommandDesk | undefined;
  private heartbeat: NodeJS.Timeout | undefined;
  private sampling: NodeJS.Timeout | undefined;
  private ending: Promise<void> | undefined;

  constructor(private readonly options: AgentOptions) {
    super();
    this.log = options.log ?? silentLog;
    this.config = options.config ?? defaultConfig();
  }

  /** Name under which Nexus knows this agent. */
  get name(): string {
    return this.identity?.agent_name ?? this.options.name ?? os.hostname();
  }

  /** Public id of the agent; empty until Nexus said it. */
  get id(): string {
    return this.identity?.agent_id ?? '';
  }

  get connected(): boolean {
    return this.link?.open ?? false;
  }

  /**
   * Takes the home, joins if need be, and starts to connect. Resolves before the link stands; `connected` tells of that.
   * @throws AgentError when it cannot start
   */
  async start(): Promise<void> {
    const { ephemeral, home } = this.options;
    if (!home && !ephemeral) throw new AgentError('An agent needs a home');
    this.home = new Home(home ?? mkdtempSync(path.join(os.tmpdir(), 'nexus-agent-')));
    try {
      this.identity = await this.identify(this.home.file(IDENTITY_FILE));
      await this.open(this.home.folder, this.identity);
    } catch (error) {
      this.leaveHome();
      if (error instanceof AgentError || this.stopSignal.signal.aborted) throw error;
      throw new AgentError(`The agent cannot start: ${reasonOf(error)}`);
    }
  }

  /**
   * Sends events of its user beside the agent's own; they are spooled like them.
   * @throws AgentError when it is not started, or on another `source` than its name, which Nexus would reject
   */
  async record(events: TelemetryEventFrame[]): Promise<void> {
    if (!this.telemetry) throw new AgentError('The agent is not started');
    const other = events.find(({ source }) => source !== this.name)?.source;
    if (other !== undefined) throw new AgentError(`The source must be ${this.name}, not ${other}`);
    await this.telemetry.record(events);
  }

  /** Stops gracefully: programs get `graceMs`; a second call ends the grace. */
  stop(graceMs = 10_000): Promise<void> {
    if (this.ending) this.desk?.hurry();
    return (this.ending ??= this.end(graceMs));
  }

  private async end(graceMs: number): Promise<void> {
    this.stopSignal.abort();
    clearTimeout(this.sampling);
    await this.desk?.stop(graceMs, this.connected ? FAREWELL_MS : 0);
    if (this.connected) await this.telemetry?.flush(FAREWELL_MS);
    clearInterval(this.heartbeat);
    await this.link?.stop();
    this.telemetry?.stop();
    this.leaveHome();
  }

  private async identify(file: string): Promise<Identity> {
    const { key, signingKey } = this.options;
    const known = readIdentity(file);
    const url = apiUrl(this.options.url ?? known?.url, this.options.insecureHttp);
    if (key) return { agent_id: '', agent_name: this.name, api_key: key, signing_key: signingKey, url };
    if (known) {
      if (this.options.join && known.url !== url) {
        throw new AgentError(
          `This home already belongs to agent ${known.agent_name} of ${known.url}: choose another --home, or leave out --join`,
        );
      }
      return { ...known, url, signing_key: signingKey ?? known.signing_key };
    }
    if (!this.options.join) {
      throw new AgentError('This agent has no key yet: give it a join token with --join');
    }
    const request = {
      token: this.options.join,
      agent_name: this.name,
      agent_type: 'host',
      capabilities: this.capabilities(),
      version: VERSION,
      labels: this.labels,
    };
    const identity = await joinNexus(url, request, file, this.log, this.stopSignal.signal);
    this.log.info('Joined Nexus', { agent: identity.agent_id, name: identity.agent_name });
    return identity;
  }

  private async open(folder: string, { url, api_key, signing_key }: Identity): Promise<void> {
    const sync = !this.options.ephemeral;
    const { log, config } = this;
    const link = new Link(
      url,
      api_key,
      {
        hello: () => this.hello(),
        welcome: (frame) => this.welcomed(frame),
        frame: (frame) => this.receive(frame),
        lost: () => this.lost(),
        writable: () => this.desk?.writable(),
        replaced: () => {
          log.error('Another agent with the same key has taken over the link');
          this.emit('replaced');
        },
      },
      log,
    );
    this.link = link;
    this.spool = new Spool(path.join(folder, 'spool'), config.spoolLimitBytes, sync, log);
    this.telemetry = new Telemetry(this.spool, (frame) => link.send(frame), log);
    this.desk = new CommandDesk({ folder, sync, log, ...config }, link);
    if (signing_key) this.desk.trust(parseSigningKey(signing_key));
    await this.desk.recover();
    if (this.stopSignal.signal.aborted) return;
    link.start();
    if (this.interval > 0) void this.sample();
  }

  private hello(): AgentFrame {
    return {
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      agent_version: VERSION,
      boot_id: this.bootId,
      hostname: os.hostname(),
      platform: `${os.platform()}-${os.arch()}`,
      labels: this.labels,
      capabilities: this.capabilities(),
      commands: this.desk?.adverts() ?? [],
      unfinished: this.desk?.unfinished().slice(0, MOST_UNFINISHED) ?? [],
    };
  }

  private welcomed(frame: Extract<ServerFrame, { type: 'welcome' }>): void {
    const { identity } = this;
    if (identity) {
      this.identity = { ...identity, agent_id: frame.agent_id, agent_name: frame.name };
      this.checkSigningKey(this.identity, frame.signing_key);
    }
    this.log.info('Connected to Nexus', { agent: frame.agent_id, name: frame.name });
    clearInterval(this.heartbeat);
    this.heartbeat = setInterval(() => this.beat(), Math.max(1000, frame.heartbeat_interval_ms));
    this.desk?.welcomed(frame);
    this.telemetry?.resume();
    this.emit('connected');
  }

  /** Keeps the key of the first welcome where none was given before; no later welcome replaces it. */
  private checkSigningKey(identity: Identity, shown: string): void {
    if (identity.signing_key === shown) return;
    if (identity.signing_key) {
      this.log.error('Nexus shows another signing key than the one this agent trusts: its commands are refused');
      return;
    }
    this.desk?.trust(parseSigningKey(shown));
    this.identity = { ...identity, signing_key: shown };
    if (this.options.key) {
      this.log.warn('No signing key was given with the key: the one that Nexus shows is trusted until this agent ends');
    } else if (this.home) writeIdentity(this.home.file(IDENTITY_FILE), this.identity);
  }

  private lost(): void {
    clearInterval(this.heartbeat);
    this.emit('disconnected');
  }

  private receive(frame: ServerFrame): void {
    if (frame.type === 'telemetry_ack' || frame.type === 'telemetry_nack') this.telemetry?.answer(frame);
    else this.desk?.receive(frame);
  }

  private beat(): void {
    this.link?.send({
      type: 'heartbeat',
      load_percent: Math.round(this.metrics.loadPercent * 10) / 10,
      running: this.desk?.running ?? 0,
      spooled_batches: this.spool?.batches.size ?? 0,
    });
  }

  private async sample(): Promise<void> {
    const began = Date.now();
    try {
      const events = await this.metrics.sample(() => this.name, this.spool?.dropped ?? 0);
      if (!this.stopSignal.signal.aborted) await this.telemetry?.record(events);
    } catch (error) {
      this.log.warn('The figures of this host cannot be read', { reason: reasonOf(error) });
    }
    if (this.stopSignal.signal.aborted) return;
    const pause = Math.max(100, began + this.interval - Date.now());
    this.sampling = setTimeout(() => void this.sample(), pause);
  }

  private leaveHome(): void {
    this.home?.release();
    if (this.home && this.options.ephemeral && !this.options.home) {
      rmSync(this.home.folder, { recursive: true, force: true });
    }
    this.home = undefined;
  }

  private get interval(): number {
    return this.options.intervalMs ?? DEFAULT_INTERVAL_MS;
  }

  private get labels(): Record<string, string> {
    return { ...this.config.labels, ...this.options.labels };
  }

  /** What this agent can do besides reporting; Nexus routes by it. */
  private capabilities(): string[] {
    return this.interval > 0 ? ['commands', 'system.metrics'] : ['commands'];
  }
}
