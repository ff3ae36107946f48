import os from 'node:os';
import type { ParameterRule, ParameterRules, Scalar } from './command-type.js';

/** What a built-in leaves: text for people, data for programs (JSON, at most 64 KiB). */
export interface BuiltinOutcome {
  text: string;
  data: unknown;
}

/** A command that every agent has. It only looks, so running it twice does no harm. */
export interface Builtin {
  description: string;
  timeoutSeconds: number;
  parameters: ParameterRules;
  run(values: ReadonlyMap<string, Scalar>): BuiltinOutcome | Promise<BuiltinOutcome>;
}

export const builtins: ReadonlyMap<string, Builtin> = new Map<string, Builtin>([
  [
    'system.ping',
    {
      description: 'Answers pong, with the message it was given',
      timeoutSeconds: 10,
      parameters: new Map([['message', rule({ type: 'string', maxLength: 1000, allowLeadingDash: true })]]),
      run: ping,
    },
  ],
  [
    'system.info',
    { description: 'Describes the host', timeoutSeconds: 10, parameters: new Map<string, ParameterRule>(), run: info },
  ],
  [
    'system.processes',
    {
      description: 'Lists the processes that use most CPU or memory',
      timeoutSeconds: 30,
      parameters: new Map([
        ['limit', rule({ type: 'integer', default: 20, minimum: 1, maximum: 100 })],
        ['sort_by', rule({ type: 'string', default: 'cpu', enum: ['cpu', 'memory'] })],
      ]),
      run: processes,
    },
  ],
]);

function rule(fields: Pick<ParameterRule, 'type'> & Partial<ParameterRule>): ParameterRule {
  return { required: false, maxLength: 256, allowLeadingDash: false, ...fields };
}

function ping(values: ReadonlyMap<string, Scalar>): BuiltinOutcome {
  const message = values.get('message');
  const text = message === undefined ? 'pong\n' : `pong ${message}\n`;
  return { text, data: { reply: 'pong', ...(message === undefined ? {} : { message }) } };
}

function info(): BuiltinOutcome {
  const cpus = os.cpus();
  const data = {
    hostname: os.hostname(),
    platform: os.platform(),
    release: os.release(),
    arch: os.arch(),
    cpu_model: cpus[0]?.model.trim() ?? 'unknown',
    cpu_count: cpus.length,
    memory_total_bytes: os.totalmem(),
    uptime_seconds: Math.round(os.uptime()),
    node_version: process.version,
  };
  const text = Object.entries(data)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
  return { text, data };
}

async function processes(values: ReadonlyMap<string, Scalar>): Promise<BuiltinOutcome> {
  // Loaded when asked for: most agents never are.
  const { processes: read } = await import('systeminformation');
  const { all, list } = await read();
  if (list.length === 0) throw new Error('This host has no process list (is `ps` installed?)');
  const byMemory = values.get('sort_by') === 'memory';
  const top = list
    .sort((a, b) => (byMemory ? b.memRss - a.memRss : b.cpu - a.cpu))
    .slice(0, Number(values.get('limit')))
    // Not the command line: it may hold secrets.
    .map(({ pid, parentPid, name, user, cpu, mem, memRss, state }) => ({
      pid,
      parent_pid: parentPid,
      name: name.slice(0, 100),
      user: user.slice(0, 64),
      cpu_percent: round(cpu),
      memory_percent: round(mem),
      memory_bytes: memRss * 1024,
      state,
    }));
  const lines = top.map((p) =>
    [
      String(p.pid).padStart(8),
      p.cpu_percent.toFixed(1).padStart(6),
      p.memory_percent.toFixed(1).padStart(6),
      p.user.padEnd(12),
      p.name,
    ].join('  '),
  );
  return {
    text: `     PID    CPU%    MEM%  USER          NAME\n${lines.join('\n')}\n`,
    data: { total: all, processes: top },
  };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
