import { type ASTNode, Environment } from '@marcbachmann/cel-js';
import type { JudgedEvent } from './judged-event.js';

export const LONGEST_EXPRESSION = 2000;
const MOST_TEXT_CALLS = 10;
/** Characters that an expression sees of a text in `data`. */
const LONGEST_TEXT = 4096;

/** What an expression sees of an event. */
export type ExpressionContext = Record<string, unknown>;

/** Undefined: the expression has no value for this event, because it asks for something that is not there. */
export type Expression = (context: ExpressionContext) => boolean | undefined;

const environment = new Environment({
  limits: { maxAstNodes: 100, maxDepth: 20, maxListElements: 50, maxMapEntries: 10, maxCallArguments: 4 },
})
  .registerVariable('event_type', 'string')
  .registerVariable('source', 'string')
  .registerVariable('metric_name', 'string')
  .registerVariable('value', 'double')
  .registerVariable('unit', 'string')
  .registerVariable('tags', 'map<string, string>')
  .registerVariable('timestamp', 'google.protobuf.Timestamp')
  .registerVariable('data', 'map<string, dyn>');

/** Functions that take longer the longer the text is that they get. */
const TEXT_FUNCTIONS = new Set([
  ...['size', 'startsWith', 'endsWith', 'contains', 'lowerAscii', 'upperAscii', 'trim', 'indexOf', 'lastIndexOf'],
  ...['substring', 'string', 'timestamp', 'duration'],
]);

/** Functions whose time does not depend on more than the length of what they get: no loops, no regular expressions. */
const FUNCTIONS = new Set([
  ...TEXT_FUNCTIONS,
  ...['has', 'int', 'uint', 'double', 'bool', 'dyn', 'type'],
  ...['getDate', 'getDayOfMonth', 'getDayOfWeek', 'getDayOfYear', 'getFullYear', 'getMonth'],
  ...['getHours', 'getMinutes', 'getSeconds', 'getMilliseconds'],
]);

/** Why an expression is refused; `position` counts characters from 1. */
export class ExpressionError extends Error {
  constructor(
    readonly summary: string,
    readonly position: number,
  ) {
    super(`${summary} (at character ${position})`);
  }
}

/**
 * A CEL expression over an event, type-checked and bounded in size; nothing of it is ever run as code.
 * @throws ExpressionError
 */
export function compileExpression(text: string): Expression {
  if (text.length > LONGEST_EXPRESSION) {
    throw new ExpressionError(`must not be longer than ${LONGEST_EXPRESSION} characters`, LONGEST_EXPRESSION + 1);
  }
  const program = parse(text);
  const calls = callsIn(program.ast);
  const refused = calls.find(({ name }) => !FUNCTIONS.has(name));
  if (refused) throw new ExpressionError(`must not use ${refused.name}()`, refused.position);
  const tooMany = calls.filter(({ name }) => TEXT_FUNCTIONS.has(name)).at(MOST_TEXT_CALLS);
  if (tooMany) {
    const names = [...TEXT_FUNCTIONS].join(', ');
    throw new ExpressionError(
      `must not call more than ${MOST_TEXT_CALLS} functions on texts (${names})`,
      tooMany.position,
    );
  }
  const { valid, type, error } = program.check();
  if (!valid) throw errorOf(error);
  if (type !== 'bool' && type !== 'dyn') throw new ExpressionError(`must be true or false, not ${type}`, 1);
  return (context) => {
    try {
      const value: unknown = program(context);
      return typeof value === 'boolean' ? value : undefined;
    } catch {
      return undefined;
    }
  };
}

export function contextOf(row: JudgedEvent): ExpressionContext {
  const whole = JSON.parse(row.data) as Record<string, unknown>;
  const data = row.data.length > LONGEST_TEXT ? (withShortTexts(whole) as typeof whole) : whole;
  return {
    event_type: row.eventType,
    source: row.source,
    metric_name: typeof data.metric_name === 'string' ? data.metric_name : '',
    // Left out when there is none: an expression that asks for it has no value then.
    ...(row.metric && { value: row.metric.value }),
    unit: typeof data.unit === 'string' ? data.unit : '',
    tags: data.tags ?? {},
    timestamp: new Date(row.ts),
    data,
  };
}

function withShortTexts(value: unknown): unknown {
  if (typeof value === 'string') return value.slice(0, LONGEST_TEXT);
  if (Array.isArray(value)) return value.map(withShortTexts);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, withShortTexts(member)]));
}

function parse(text: string): ReturnType<Environment['parse']> {
  try {
    return environment.parse(text);
  } catch (error) {
    throw errorOf(error);
  }
}

function errorOf(error: unknown): ExpressionError {
  const { summary, range } = error as { summary?: string; range?: { start: number } };
  return new ExpressionError(summary ?? 'is not a usable expression', (range?.start ?? 0) + 1);
}

function callsIn(node: ASTNode): { name: string; position: number }[] {
  const own = node.op === 'call' || node.op === 'rcall' ? [{ name: node.args[0], position: node.start + 1 }] : [];
  return [...own, ...childrenOf(node.args).flatMap(callsIn)];
}

function childrenOf(args: unknown): ASTNode[] {
  if (Array.isArray(args)) return args.flatMap(childrenOf);
  return typeof args === 'object' && args !== null && 'op' in args ? [args as ASTNode] : [];
}
