import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { AgentError, reasonOf } from './agent-error.js';
import { builtins } from './builtins.js';
import { type CommandType, type ParameterRule, placeholdersOf, problemOf, type Scalar } from './command-type.js';

/** What the owner of a host decides in the agent's configuration file. */
export interface AgentConfig {
  labels: Record<string, string>;
  commands: CommandType[];
  /** Programs that run at the same time. */
  maxConcurrent: number;
  spoolLimitBytes: number;
}

const TYPE_NAME = /^[a-z][a-z0-9_.-]{0,99}$/;
const PARAMETER_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
const LABEL_NAME = /^[A-Za-z0-9._/-]{1,63}$/;
const MOST_COMMANDS = 200;
const MOST_LABELS = 64;

export function defaultConfig(): AgentConfig {
  return readConfig({});
}

/**
 * @throws AgentError that names every wrong key; also when everybody may write the file, for who writes it decides
 * what runs here
 */
export function readConfigFile(file: string): AgentConfig {
  let content: unknown;
  try {
    const mode = statSync(file).mode;
    content = JSON.parse(readFileSync(file, 'utf8'));
    if (process.platform !== 'win32' && (mode & 0o002) !== 0) {
      throw new AgentError(`The configuration ${file} can be written by every user of this host: chmod o-w it`);
    }
  } catch (error) {
    if (error instanceof AgentError) throw error;
    const why = error instanceof SyntaxError ? 'is not JSON' : `cannot be read (${reasonOf(error)})`;
    throw new AgentError(`The configuration ${file} ${why}`);
  }
  return readConfig(content, file);
}

/** @throws AgentError that names every wrong key */
export function readConfig(content: unknown, origin = 'given'): AgentConfig {
  const root = new Reader(content, '', []);
  const config = {
    labels: readLabels(root.child('labels')),
    commands: readCommands(root.child('commands')),
    maxConcurrent: root.number('max_concurrent', 1, 64, 4),
    spoolLimitBytes: root.number('spool_limit_bytes', 1024 * 1024, 2 ** 40, 64 * 1024 * 1024),
  };
  root.end();
  if (root.problems.length > 0) {
    throw new AgentError(`The configuration ${origin} is wrong: ${root.problems.join('; ')}`);
  }
  return config;
}

/** What is wrong with a label; null when nothing is. */
export function labelProblem(name: string, value: unknown): string | null {
  if (!LABEL_NAME.test(name)) return 'is not a label name (letters, digits, . _ / -, at most 63)';
  return typeof value === 'string' && value.length <= 63 ? null : 'must be a text of at most 63 characters';
}

function readLabels(reader: Reader): Record<string, string> {
  const labels: Record<string, string> = {};
  if (reader.names().length > MOST_LABELS) reader.wrong('', `holds more than ${MOST_LABELS}`);
  for (const name of reader.names()) {
    const value = reader.take(name);
    const problem = labelProblem(name, value);
    if (problem) reader.wrong(name, problem);
    else labels[name] = value as string;
  }
  return labels;
}

function readCommands(reader: Reader): CommandType[] {
  const names = reader.names();
  if (names.length > MOST_COMMANDS) reader.wrong('', `holds more than ${MOST_COMMANDS} types`);
  return names.map((name) => {
    if (!TYPE_NAME.test(name)) reader.wrong(name, 'is not a type name (a-z, 0-9, . _ -, at most 100)');
    if (builtins.has(name)) reader.wrong(name, 'is a built-in and cannot be redefined');
    return readCommand(name, reader.child(name));
  });
}

function readCommand(type: string, reader: Reader): CommandType {
  const parameters = new Map<string, ParameterRule>();
  const rules = reader.child('parameters');
  for (const name of rules.names()) {
    if (!PARAMETER_NAME.test(name)) rules.wrong(name, 'is not a parameter name (letters, digits, _)');
    parameters.set(name, readRule(rules.child(name), rules, name));
  }
  const command: CommandType = {
    type,
    description: reader.text('description', 200),
    executable: reader.path('executable') ?? '',
    args: reader.texts('args'),
    parameters,
    timeoutSeconds: reader.number('timeout_seconds', 1, 86_400, 300),
    outputLimitBytes: reader.number('output_limit_bytes', 0, 256 * 1024 * 1024, 1024 * 1024),
    cwd: reader.path('cwd'),
    env: reader.texts('env'),
    idempotent: reader.flag('idempotent'),
  };
  if (!command.executable) reader.wrong('executable', 'is required');
  command.args.forEach((element, index) => {
    for (const name of placeholdersOf(element)) {
      const rule = parameters.get(name);
      if (!rule) reader.wrong(`args[${index}]`, `uses {${name}}, which is not declared under parameters`);
      else if (!rule.required && rule.default === undefined) {
        reader.wrong(`args[${index}]`, `uses {${name}}, which is neither required nor has a default`);
      }
    }
  });
  command.env.forEach((name, index) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) reader.wrong(`env[${index}]`, 'is not the name of a variable');
  });
  reader.end();
  return command;
}

function readRule(reader: Reader, parent: Reader, name: string): ParameterRule {
  const type = reader.take('type') as ParameterRule['type'];
  if (!['string', 'number', 'integer', 'boolean'].includes(type)) {
    reader.wrong('type', 'must be string, number, integer or boolean');
  }
  const numeric = type === 'number' || type === 'integer';
  const rule: ParameterRule = {
    type,
    required: reader.flag('required'),
    maxLength: reader.number('max_length', 1, 65_536, 256),
    allowLeadingDash: reader.flag('allow_leading_dash'),
  };
  for (const bound of ['minimum', 'maximum'] as const) {
    const value = reader.take(bound);
    if (value === undefined) continue;
    if (!numeric || typeof value !== 'number') reader.wrong(bound, 'must be a number, for a number or an integer');
    else rule[bound] = value;
  }
  const pattern = reader.text('pattern', 1000);
  if (pattern !== undefined) {
    try {
      if (type === 'string') rule.pattern = new RegExp(`^(?:${pattern})$`, 'u');
      else reader.wrong('pattern', 'is only for a string');
    } catch {
      reader.wrong('pattern', 'is not a regular expression');
    }
  }
  const choices = reader.take('enum');
  if (choices !== undefined) {
    if (!Array.isArray(choices) || choices.length === 0) reader.wrong('enum', 'must be a list');
    else if (choices.some((choice) => problemOf(rule, choice))) {
      reader.wrong('enum', 'holds a value that is not allowed');
    } else rule.enum = choices as Scalar[];
  }
  const fallback = reader.take('default');
  if (fallback !== undefined) {
    const problem = problemOf(rule, fallback);
    if (problem) reader.wrong('default', problem);
    else rule.default = fallback as Scalar;
  }
  if (rule.required && rule.default !== undefined) parent.wrong(name, 'is required and has a default');
  reader.end();
  return rule;
}

/** Takes the fields of one object and notes everything that is wrong, under its path. */
class Reader {
  private readonly fields: Map<string, unknown>;

  constructor(
    value: unknown,
    private readonly at: string,
    readonly problems: string[],
  ) {
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    if (!isObject && value !== undefined) problems.push(`${at || 'the whole'} must be an object`);
    this.fields = new Map(isObject ? Object.entries(value) : []);
  }

  names(): string[] {
    return [...this.fields.keys()];
  }

  take(name: string): unknown {
    const value = this.fields.get(name);
    this.fields.delete(name);
    return value;
  }

  child(name: string): Reader {
    return new Reader(this.take(name), this.pathOf(name), this.problems);
  }

  wrong(name: string, problem: string): void {
    this.problems.push(`${this.pathOf(name)} ${problem}`);
  }

  text(name: string, longest: number): string | undefined {
    const value = this.take(name);
    if (value === undefined || (typeof value === 'string' && value.length <= longest)) return value;
    this.wrong(name, `must be a text of at most ${longest} characters`);
    return undefined;
  }

  path(name: string): string | undefined {
    const value = this.take(name);
    if (value === undefined || (typeof value === 'string' && path.isAbsolute(value) && !value.includes('\0'))) {
      return value;
    }
    this.wrong(name, 'must be an absolute path');
    return undefined;
  }

  texts(name: string): string[] {
    const value = this.take(name) ?? [];
    const good = Array.isArray(value) && value.every((item) => typeof item === 'string' && !item.includes('\0'));
    if (!good) this.wrong(name, 'must be a list of texts');
    return good ? (value as string[]) : [];
  }

  flag(name: string): boolean {
    const value = this.take(name) ?? false;
    if (typeof value !== 'boolean') this.wrong(name, 'must be true or false');
    return value === true;
  }

  number(name: string, least: number, most: number, fallback: number): number {
    const value = this.take(name) ?? fallback;
    if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
    this.wrong(name, `must be an integer from ${least} to ${most}`);
    return fallback;
  }

  /** Whatever was not taken is not known. */
  end(): void {
    for (const name of this.fields.keys()) this.wrong(name, 'is not a known key');
  }

  private pathOf(name: string): string {
    return [this.at, name].filter(Boolean).join('.');
  }
}
