import { type ASTNode, Environment } from '@marcbachmann/cel-js';
import type { JudgedEvent } from './judged-event.js';

export const LONGEST_EXPRESSION = 2000;

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

/** Functions whose time does not depend on more than the length of what they get: no loops, no regular expressions. */
const FUNCTIONS = new Set([
  ...['has', 'size', 'startsWith', 'endsWith', 'contains', 'lowerAscii', 'upperAscii', 'trim', 'indexOf', 'substring'],
  ...['string', 'int', 'uint', 'double', 'bool', 'dyn', 'type', 'timestamp', 'duration', 'lastIndexOf'],
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
  const refused = firstRefused(program.ast);
  if (refused) throw new ExpressionError(`must not use ${refused.name}`, refused.position);
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
  const data = JSON.parse(row.data) as Record<string, unknown>;
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

function firstRefused(node: ASTNode): { name: string; position: number } | null {
  if ((node.op === 'call' || node.op === 'rcall') && !FUNCTIONS.has(node.args[0])) {
    return { name: `${node.args[0]}()`, position: node.start + 1 };
  }
  for (const child of childrenOf(node.args)) {
    const found = firstRefused(child);
    if (found) return found;
  }
  return null;
}

function childrenOf(args: unknown): ASTNode[] {
  if (Array.isArray(args)) return args.flatMap(childrenOf);
  return typeof args === 'object' && args !== null && 'op' in args ? [args as ASTNode] : [];
}
