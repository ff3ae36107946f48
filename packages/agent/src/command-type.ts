export type Scalar = string | number | boolean;

/** What one parameter of a command may be. */
export interface ParameterRule {
  type: 'string' | 'number' | 'integer' | 'boolean';
  required: boolean;
  default?: Scalar;
  enum?: Scalar[];
  /** Must match the whole text. */
  pattern?: RegExp;
  /** Characters of the value as text. */
  maxLength: number;
  minimum?: number;
  maximum?: number;
  /** A value that starts with `-` could be read as an option by the program. */
  allowLeadingDash: boolean;
}

export type ParameterRules = ReadonlyMap<string, ParameterRule>;

/** A program that this agent may run, as the configuration of its owner describes it. */
export interface CommandType {
  type: string;
  description?: string;
  /** Absolute path; started directly, never through a shell. */
  executable: string;
  /** Each element becomes exactly one argument, `{name}` in it replaced by the parameter. */
  args: string[];
  parameters: ParameterRules;
  timeoutSeconds: number;
  outputLimitBytes: number;
  cwd?: string;
  /** Names of the agent's own environment variables that the program gets. */
  env: string[];
  idempotent: boolean;
}

/** The parameters of a command do not fit its type; the message names the parameter, never its value. */
export class ParameterError extends Error {
  override readonly name = 'ParameterError';
}

/** `{name}`; doubled braces belong to the program. */
const PLACEHOLDER = /(?<!\{)\{([A-Za-z_][A-Za-z0-9_]*)\}(?!\})/g;
const NUL_OR_LONE_SURROGATE = /[\0\p{Surrogate}]/u;

/** Names of the parameters that a template element uses. */
export function placeholdersOf(element: string): string[] {
  return [...element.matchAll(PLACEHOLDER)].map((match) => match[1]);
}

/**
 * Checks given parameters against their rules and fills in defaults.
 * @throws ParameterError
 */
export function checkParameters(rules: ParameterRules, given: Record<string, unknown>): Map<string, Scalar> {
  for (const name of Object.keys(given)) {
    if (!rules.has(name)) {
      throw new ParameterError(`${JSON.stringify(name.slice(0, 64))} is not a parameter of this type`);
    }
  }
  const values = new Map<string, Scalar>();
  for (const [name, rule] of rules) {
    const value = Object.hasOwn(given, name) ? given[name] : rule.default;
    if (value === undefined) {
      if (rule.required) throw new ParameterError(`${name} is required`);
      continue;
    }
    const problem = problemOf(rule, value);
    if (problem) throw new ParameterError(`${name} ${problem}`);
    values.set(name, value as Scalar);
  }
  return values;
}

/** What is wrong with a value under a rule; null when nothing is. */
export function problemOf(rule: ParameterRule, value: unknown): string | null {
  const { type } = rule;
  if (type === 'integer' ? !Number.isSafeInteger(value) : typeof value !== type || Number.isNaN(value)) {
    return `must be ${type === 'integer' ? 'an integer' : `a ${type}`}`;
  }
  const text = String(value);
  if (NUL_OR_LONE_SURROGATE.test(text)) return 'holds characters that no argument can hold';
  if (text.length > rule.maxLength) return `must not be longer than ${rule.maxLength} characters`;
  if (text.startsWith('-') && !rule.allowLeadingDash) return 'must not start with a dash';
  if (rule.enum && !rule.enum.includes(value as Scalar)) return `must be one of ${rule.enum.join(', ')}`;
  if (rule.pattern && !rule.pattern.test(text)) return 'does not match the pattern of this parameter';
  if (rule.minimum !== undefined && (value as number) < rule.minimum) return `must be at least ${rule.minimum}`;
  if (rule.maximum !== undefined && (value as number) > rule.maximum) return `must be at most ${rule.maximum}`;
  return null;
}

/** The arguments of one run: as many as the template has elements, whatever the values hold. */
export function argumentsOf(type: CommandType, values: ReadonlyMap<string, Scalar>): string[] {
  return type.args.map((element) => element.replace(PLACEHOLDER, (_match, name: string) => String(values.get(name))));
}
