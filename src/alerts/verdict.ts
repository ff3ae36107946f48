import { compileExpression, type ExpressionContext } from './expression.js';
import type { Operator, RuleDefinition } from './rule-definition.js';
import type { JudgedEvent } from './judged-event.js';

/**
 * What an event says of a rule: the condition holds, the clear condition holds, neither, or nothing at all (it lacks what the
 * condition asks for).
 */
export type Verdict = 'breach' | 'clear' | 'between' | 'silent';

/** `context` makes what expressions see, when one is asked. */
export type Judge = (row: JudgedEvent, context: (row: JudgedEvent) => ExpressionContext) => Verdict;

const COMPARE: Record<Operator, (value: number, threshold: number) => boolean> = {
  gt: (value, threshold) => value > threshold,
  gte: (value, threshold) => value >= threshold,
  lt: (value, threshold) => value < threshold,
  lte: (value, threshold) => value <= threshold,
  eq: (value, threshold) => value === threshold,
  ne: (value, threshold) => value !== threshold,
};

/** The operator that says the contrary: what clears when only a threshold for it is given. */
const CONTRARY: Record<Operator, Operator> = { gt: 'lte', gte: 'lt', lt: 'gte', lte: 'gt', eq: 'ne', ne: 'eq' };

type Test = (row: JudgedEvent, context: (row: JudgedEvent) => ExpressionContext) => boolean | undefined;

/** @throws ExpressionError */
export function judgeOf(definition: RuleDefinition): Judge {
  // Any data ends an absence.
  if (definition.absent_for_seconds !== null) return () => 'clear';
  const { operator, threshold, condition } = definition;
  const breach = testOf(operator, threshold, condition);
  const clear = clearTestOf(definition);
  return (row, context) => {
    const breached = breach(row, context);
    if (breached) return 'breach';
    if (clear === null) return breached === undefined ? 'silent' : 'clear';
    const cleared = clear(row, context);
    if (cleared) return 'clear';
    return breached === undefined && cleared === undefined ? 'silent' : 'between';
  };
}

/** Null: whatever is no breach clears. */
function clearTestOf({ clear, operator }: RuleDefinition): Test | null {
  if (clear === null) return null;
  return testOf(clear.operator ?? (operator && CONTRARY[operator]), clear.threshold, clear.condition);
}

function testOf(operator: Operator | null, threshold: number | null, condition: string | null): Test {
  if (condition !== null) {
    const expression = compileExpression(condition);
    return (row, context) => expression(context(row));
  }
  if (operator === null || threshold === null) return () => undefined;
  const holds = COMPARE[operator];
  return ({ metric }) => (metric === null ? undefined : holds(metric.value, threshold));
}
