import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type AgentConfig, defaultConfig } from './agent-config.js';
import { AgentError, reasonOf } from './agent-error.js';
import { signingKey } from './command-check.js';
import { CommandDesk } from './command-desk.js';
import { Home } from './home.js';
import { type Identity, joinNexus, readIdentity, writeIdentity } from './identity.js';
import { Link } from './link.js';
import { type AgentLog, silentLog } from './log.js';
import { SystemMetrics } from './metrics.js';
import { type AgentFrame, PROTOCOL_VERSION, type ServerFrame, type TelemetryEventFrame } from './protocol.js';
import { Spool } from './spool.js';
import { Telemetry } from './telemetry.js';

export interface AgentOptions {
  /** Base URL of Nexus; without it the one this home joined. */
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
      this.identity = await this.identify(this.home.file('identity.json'));
      await this.open(this.home.folder, this.identity);
    } catch (error) {
      this.leaveHome();
      if (error instanceof AgentError || this.stopSignal.signal.aborted) throw error;
      throw new AgentError(`The agent cannot start: ${reasonOf(error)}`);
    }
  }

  /** Sends events of its user beside the agent's own; they are spooled like them. */
  async record(events: TelemetryEventFrame[]): Promise<void> {
    if (!this.telemetry) throw new AgentError('The agent is not started');
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
    const known = readIdentity(file);
    const url = baseUrl(this.options.url ?? known?.url, this.options.insecureHttp);
    if (this.options.key) return { agent_id: '', agent_name: this.name, api_key: this.options.key, url };
    if (known) {
      if (this.options.join && known.url !== url) {
        throw new AgentError(
          `This home already belongs to agent ${known.agent_name} of ${known.url}: choose another --home, or leave out --join`,
        );
      }
      return { ...known, url };
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
    const keep = (identity: Identity): void => writeIdentity(file, identity);
    const identity = await joinNexus(url, request, keep, this.log, this.stopSignal.signal);
    this.log.info('Joined Nexus', { agent: identity.agent_id, name: identity.agent_name });
    return identity;
  }

  private async open(folder: string, { url, api_key }: Identity): Promise<void> {
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
    this.desk = new CommandDesk({ folder, key: signingKey(api_key), sync, log, ...config }, link);
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
    if (identity) this.identity = { ...identity, agent_id: frame.agent_id, agent_name: frame.name };
    this.log.info('Connected to Nexus', { agent: frame.agent_id, name: frame.name });
    clearInterval(this.heartbeat);
    this.heartbeat = setInterval(() => this.beat(), Math.max(1000, frame.heartbeat_interval_ms));
    this.desk?.welcomed(frame);
    this.telemetry?.resume();
    this.emit('connected');
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

/** @throws AgentError */
function baseUrl(url: string | undefined, insecureHttp = false): string {
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
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/, '')}`;
}

/** @param hostname as `URL` writes it: IPv4 addresses in four numbers, IPv6 ones in brackets */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);
}
