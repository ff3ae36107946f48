import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { labelProblem, readConfigFile } from './agent-config.js';
import { AgentError } from './agent-error.js';
import { Agent, type AgentOptions, VERSION } from './agent.js';
import { LOG_LEVELS, type LogLevel, stderrLog } from './log.js';
import { onNpmGone } from './npm-watch.js';

const HELP = `nexus-agent ${VERSION}: sends this host's figures to Nexus and executes the commands its owner allows

Usage: nexus-agent --url URL [--join TOKEN] [options]

  --url URL           where Nexus is, such as https://nexus.example; with the path of its API
                      where that is not /api/v1 (NEXUS_URL)
  --insecure-http     allow http:// to another machine (NEXUS_AGENT_INSECURE_HTTP=true)
  --join TOKEN        one-time token, for the first start only (NEXUS_AGENT_JOIN)
  --name NAME         name to join under; default: the host's name (NEXUS_AGENT_NAME)
  --label KEY=VALUE   label of this agent; may be given several times
  --home DIR          folder of its key and state; default ~/.nexus-agent (NEXUS_AGENT_HOME)
  --config FILE       JSON file with the commands this agent allows
  --interval SECONDS  between samples of the host's figures, 1 to 3600; default 10; 0 takes none
  --log-level LEVEL   debug, info, warn or error; default info
  --version           print the version
  --help              print this

NEXUS_AGENT_KEY holds an issued key to use instead of the one in the home, NEXUS_AGENT_SIGNING_KEY the signing key that was
shown with it.
`;

const EXIT_FAILED = 1;
const EXIT_REPLACED = 3;
/** For running programs at a stop. A server that has this agent as its child is stopping too and does not wait long. */
const GRACE_MS = process.send ? 1000 : 10_000;

async function main(): Promise<void> {
  const given = readArguments();
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  if (given.version) {
    process.stdout.write(`${VERSION}\n`);
    return;
  }
  const log = stderrLog(given.logLevel);
  const agent = new Agent({ ...given.options, log });
  let exitCode = 0;
  const stop = (why: string, graceMs: number): void => {
    log.info('The agent is stopping', { reason: why });
    void agent.stop(graceMs).then(() => process.exit(exitCode));
  };
  process.on('SIGTERM', () => stop('SIGTERM', GRACE_MS));
  process.on('SIGHUP', () => stop('SIGHUP', GRACE_MS));
  process.on('SIGINT', () => stop('SIGINT', GRACE_MS));
  // Started by another process with a channel: it does not outlive it.
  if (process.send) process.once('disconnect', () => stop('parent gone', GRACE_MS));
  onNpmGone(() => stop('npm gone', GRACE_MS));
  agent.once('replaced', () => {
    exitCode = EXIT_REPLACED;
    stop('replaced', 0);
  });
  await agent.start().catch((error: unknown) => {
    if ((error as Error).name !== 'AbortError') throw error;
  });
}

function readArguments(): { help: boolean; version: boolean; logLevel: LogLevel; options: AgentOptions } {
  const { values } = parse();
  const { env } = process;
  const logLevel = (values['log-level'] ?? 'info') as LogLevel;
  if (!LOG_LEVELS.includes(logLevel)) throw new AgentError(`--log-level must be one of ${LOG_LEVELS.join(', ')}`);
  const seconds = Number(values.interval ?? 10);
  if (!(seconds === 0 || (seconds >= 1 && seconds <= 3600))) {
    throw new AgentError('--interval must be a number of seconds from 1 to 3600, or 0');
  }
  const config = values.help || values.version || !values.config ? undefined : readConfigFile(values.config);
  return {
    help: values.help ?? false,
    version: values.version ?? false,
    logLevel,
    options: {
      url: values.url ?? (env.NEXUS_URL || undefined),
      insecureHttp: values['insecure-http'] ?? readSwitch('NEXUS_AGENT_INSECURE_HTTP'),
      join: values.join ?? (env.NEXUS_AGENT_JOIN || undefined),
      key: env.NEXUS_AGENT_KEY || undefined,
      signingKey: env.NEXUS_AGENT_SIGNING_KEY || undefined,
      name: values.name ?? (env.NEXUS_AGENT_NAME || undefined),
      home: values.home ?? (env.NEXUS_AGENT_HOME || path.join(os.homedir(), '.nexus-agent')),
      labels: readLabels(values.label ?? []),
      intervalMs: seconds * 1000,
      config,
    },
  };
}

function parse() {
  try {
    return parseArgs({
      options: {
        url: { type: 'string' },
        'insecure-http': { type: 'boolean' },
        join: { type: 'string' },
        name: { type: 'string' },
        label: { type: 'string', multiple: true },
        home: { type: 'string' },
        config: { type: 'string' },
        interval: { type: 'string' },
        'log-level': { type: 'string' },
        version: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new AgentError(`${(error as Error).message} (see --help)`);
  }
}

function readSwitch(name: string): boolean {
  const value = process.env[name] || 'false';
  if (value !== 'true' && value !== 'false') throw new AgentError(`${name} must be true or false`);
  return value === 'true';
}

function readLabels(texts: string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=');
      const [name, value] = [text.slice(0, at), text.slice(at + 1)];
      const problem = at < 0 ? 'must look like key=value' : labelProblem(name, value);
      if (problem) throw new AgentError(`--label ${text} ${problem}`);
      return [name, value];
    }),
  );
}

main().catch((error: unknown) => {
  const text = error instanceof AgentError ? error.message : String((error as Error).stack ?? error);
  process.stderr.write(`nexus-agent: ${text}\n`);
  process.exit(EXIT_FAILED);
});
