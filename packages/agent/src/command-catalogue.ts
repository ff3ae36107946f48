import { builtins, type Builtin } from './builtins.js';
import { Refusal } from './command-check.js';
import { argumentsOf, checkParameters, type CommandType, ParameterError, type Scalar } from './command-type.js';
import { canGuard, type Outcome, run, type Running } from './executor.js';
import type { OutputStream } from './output-log.js';
import type { CommandEnvelope, CommandTypeAdvert } from './protocol.js';

const BUILTIN_OUTPUT_BYTES = 1024 * 1024;

/** What this agent is willing to do: its built-ins and the programs that its owner allows. */
export class Catalogue {
  private readonly types: Map<string, CommandType>;
  private guard = false;

  constructor(types: CommandType[]) {
    this.types = new Map(types.map((type) => [type.type, type]));
  }

  async prepare(): Promise<void> {
    this.guard = this.types.size > 0 && (await canGuard());
  }

  isBuiltin(type: string): boolean {
    return builtins.has(type);
  }

  outputLimit(type: string): number {
    return this.types.get(type)?.outputLimitBytes ?? BUILTIN_OUTPUT_BYTES;
  }

  adverts(): CommandTypeAdvert[] {
    const always = [...builtins].map(([type, { description, timeoutSeconds }]) => ({
      type,
      description,
      timeout_seconds: timeoutSeconds,
      idempotent: true,
    }));
    const own = [...this.types.values()].map(({ type, description, timeoutSeconds, idempotent }) => ({
      type,
      ...(description === undefined ? {} : { description }),
      timeout_seconds: timeoutSeconds,
      idempotent,
    }));
    return [...always, ...own];
  }

  /** @throws Refusal when the type is not allowed or a parameter does not fit */
  check({ command_type, parameters }: CommandEnvelope): Map<string, Scalar> {
    const rules = (builtins.get(command_type) ?? this.types.get(command_type))?.parameters;
    if (!rules) throw new Refusal('TYPE_NOT_ALLOWED', 'This agent does not allow commands of this type');
    try {
      return checkParameters(rules, parameters);
    } catch (error) {
      if (error instanceof ParameterError) throw new Refusal('INVALID_PARAMETERS', error.message);
      throw error;
    }
  }

  /**
   * Starts a command that passed {@link check}. Its time is what the command asks for, at most what its type allows.
   * @throws Refusal
   */
  start(envelope: CommandEnvelope, onOutput: (stream: OutputStream, bytes: Buffer) => void): Running {
    const values = this.check(envelope);
    const builtin = builtins.get(envelope.command_type);
    const type = this.types.get(envelope.command_type);
    const limitSeconds = builtin?.timeoutSeconds ?? type?.timeoutSeconds ?? 0;
    const timeoutMs = 1000 * Math.min(envelope.timeout_seconds, limitSeconds);
    if (builtin) return runBuiltin(builtin, values, timeoutMs, onOutput);
    if (!type) throw new Refusal('TYPE_NOT_ALLOWED', 'This agent does not allow commands of this type');
    const { executable, cwd, env } = type;
    const args = argumentsOf(type, values);
    return run({ commandId: envelope.command_id, executable, args, cwd, env, timeoutMs }, this.guard, onOutput);
  }
}

function runBuiltin(
  builtin: Builtin,
  values: ReadonlyMap<string, Scalar>,
  timeoutMs: number,
  onOutput: (stream: OutputStream, bytes: Buffer) => void,
): Running {
  let stop: Running['stop'] = () => undefined;
  const stopped = new Promise<Outcome>((resolve) => {
    stop = (status, reason) => resolve(notRun(status, status === 'timed_out' ? 'TIMEOUT' : 'CANCELLED', reason));
  });
  const limit = setTimeout(() => stop('timed_out', `no answer within ${timeoutMs / 1000} s`), timeoutMs);
  const answered = Promise.resolve(builtin.run(values)).then(
    ({ text, data }): Outcome => {
      onOutput('stdout', Buffer.from(text));
      return { status: 'completed', message: 'done', exit_code: null, signal: null, data };
    },
    (error: Error) => notRun('failed', 'FAILED', error.message),
  );
  const done = Promise.race([answered, stopped]).finally(() => clearTimeout(limit));
  return { pid: undefined, done, stop };
}

/** The outcome of a command that no program stands for. */
export function notRun(status: Outcome['status'], code: string, message: string): Outcome {
  return { status, message, exit_code: null, signal: null, error: { code, message } };
}
