import { execFile, spawn } from 'node:child_process';
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { reasonOf } from './agent-error.js';
import { processStart } from './home.js';
import type { OutputStream } from './output-log.js';
import { shownCommandId } from './protocol.js';
import type { ResultFrame } from './ledger.js';

/** In the environment of every program: its descendants can be found by it after a crash of the agent. */
const MARK = 'NEXUS_COMMAND_ID';
const KILL_AFTER_MS = 5000;
/** After a program ended, how long others that hold its output open are listened to. */
const LINGER_MS = 1000;
const LOOK_MS = 50;
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const GUARD = '/usr/bin/setpriv';

export interface Program {
  commandId: string;
  executable: string;
  args: string[];
  cwd?: string;
  /** Names of variables handed on from the agent's environment. */
  env: string[];
  timeoutMs: number;
}

export type Outcome = Pick<ResultFrame, 'status' | 'message' | 'exit_code' | 'signal' | 'error' | 'data'>;

/** A program under way, in a process group of its own. */
export interface Running {
  /** Undefined when it could not be started. */
  pid: number | undefined;
  done: Promise<Outcome>;
  /** SIGTERM to the whole group, SIGKILL five seconds later, also to what left the group (on Linux); `done` follows. */
  stop(status: 'cancelled' | 'timed_out', reason: string): void;
}

let guarded: Promise<boolean> | undefined;

/** Whether programs can be made to die with the agent even if it is killed by SIGKILL (Linux with util-linux). */
export function canGuard(): Promise<boolean> {
  return (guarded ??= new Promise((resolve) => {
    if (process.platform !== 'linux') resolve(false);
    else execFile(GUARD, ['--pdeathsig', 'KILL', '/bin/true'], (error) => resolve(!error));
  }));
}

/** Starts a program with exactly these arguments, without a shell, so that no argument can become another command. */
export function run(
  program: Program,
  guard: boolean,
  onOutput: (stream: OutputStream, bytes: Buffer) => void,
): Running {
  const { executable, args } = program;
  try {
    // The guard would start, and say in the program's place that there is none.
    accessSync(executable, constants.X_OK);
  } catch (error) {
    return { pid: undefined, done: Promise.resolve(notStarted(error)), stop: () => undefined };
  }
  const [file, argv] = guard ? [GUARD, ['--pdeathsig', 'KILL', '--', executable, ...args]] : [executable, args];
  const child = spawn(file, argv, {
    cwd: program.cwd ?? '/',
    env: environmentOf(program),
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    windowsHide: true,
  });
  let stopped: Pick<Outcome, 'status' | 'message'> | undefined;
  let killed: Promise<void> | undefined;
  const stop: Running['stop'] = (status, message) => {
    if (stopped || child.exitCode !== null || child.signalCode !== null) return;
    stopped = { status, message };
    if (child.pid !== undefined) killed = endGroup(child.pid).then(() => killMarked([program.commandId]));
  };
  const limit = setTimeout(() => stop('timed_out', `stopped after ${program.timeoutMs / 1000} s`), program.timeoutMs);
  child.stdout.on('data', (bytes: Buffer) => onOutput('stdout', bytes));
  child.stderr.on('data', (bytes: Buffer) => onOutput('stderr', bytes));
  const done = new Promise<Outcome>((resolve) => {
    child.once('error', (error) => {
      // Later errors (a signal that could not be sent) end nothing.
      if (child.pid === undefined) resolve(notStarted(error));
    });
    child.once('exit', () => {
      // A daemon that the program left behind may hold the pipes open for ever.
      const linger = setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, LINGER_MS);
      child.once('close', () => clearTimeout(linger));
    });
    child.once('close', (code, signal) => {
      if (child.pid !== undefined) {
        void (killed ?? Promise.resolve()).then(() => resolve(outcomeOf(code, signal, stopped)));
      }
    });
  });
  void done.then(() => clearTimeout(limit));
  return { pid: child.pid, done, stop };
}

function outcomeOf(
  exit_code: number | null,
  signal: NodeJS.Signals | null,
  stopped: Pick<Outcome, 'status' | 'message'> | undefined,
): Outcome {
  if (stopped) {
    const code = stopped.status === 'timed_out' ? 'TIMEOUT' : 'CANCELLED';
    return { ...stopped, exit_code, signal, error: { code, message: stopped.message } };
  }
  if (exit_code === 0) return { status: 'completed', message: 'exited with code 0', exit_code, signal };
  const message = signal ? `ended by ${signal}` : `exited with code ${exit_code}`;
  return { status: 'failed', message, exit_code, signal, error: { code: signal ? 'KILLED' : 'EXIT_CODE', message } };
}

function notStarted(error: unknown): Outcome {
  const message = `the program could not be started (${reasonOf(error)})`;
  return { status: 'failed', message, exit_code: null, signal: null, error: { code: 'NOT_STARTED', message } };
}

function environmentOf({ env, commandId }: Program): NodeJS.ProcessEnv {
  const values: NodeJS.ProcessEnv = { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' };
  for (const name of env) if (process.env[name] !== undefined) values[name] = process.env[name];
  values[MARK] = shownCommandId(commandId);
  return values;
}

/** Resolves when no process of the group is left. */
async function endGroup(group: number): Promise<void> {
  signalGroup(group, 'SIGTERM');
  const killAt = Date.now() + KILL_AFTER_MS;
  let killed = false;
  // Nobody outlives a SIGKILL, but the dead may wait for a parent that never looks.
  while (signalGroup(group, 0) && Date.now() < killAt + 10 * LOOK_MS) {
    if (!killed && Date.now() >= killAt) {
      signalGroup(group, 'SIGKILL');
      killed = true;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** @returns false when nobody of the group is left */
function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-group, signal);
    return true;
  } catch (error) {
    return reasonOf(error) === 'EPERM';
  }
}

/**
 * Kills what programs of killed agents left running: the recorded group if it still is the same process, and on Linux
 * every process that carries the mark of one of the commands.
 */
export function killLeftovers(commands: { id: string; process?: { pid: number; started: string | null } }[]): void {
  for (const { process: left } of commands) {
    if (left?.started && processStart(left.pid) === left.started) signalGroup(left.pid, 'SIGKILL');
  }
  killMarked(commands.map(({ id }) => id));
}

function killMarked(commandIds: string[]): void {
  if (process.platform !== 'linux' || commandIds.length === 0) return;
  const marks = new Set(commandIds.map((id) => `${MARK}=${shownCommandId(id)}`));
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = readFileSync(`/proc/${name}/environ`, 'latin1').split('\0');
      if (environment.some((line) => marks.has(line))) process.kill(Number(name), 'SIGKILL');
    } catch {
      // Gone meanwhile, or not ours: then it is not our program either.
    }
  }
}
