import { AppError, type FieldIssue } from '../platform/errors/index.js';
import { compileExpression, ExpressionError } from './expression.js';
import type { ClearCondition, RuleAction, RuleDefinition } from './rule-definition.js';
import type { ClearConditionDto, PutRuleDto, RuleActionDto } from './rules.dto.js';

const MAX_TAGS = 20;
const MAX_TAG_CHARACTERS = 200;
const MAX_PARAMETER_BYTES = 16 * 1024;

/**
 * What a request says of a rule, complete with defaults and free of contradictions.
 * @throws AppError `validation` naming each wrong field; of an expression with the position
 */
export function definitionOf(given: PutRuleDto): RuleDefinition {
  // Null, as answers say it, is the same as nothing.
  const dto = withoutNulls(given);
  if (dto.clear) dto.clear = withoutNulls(dto.clear);
  dto.actions = dto.actions?.map(withoutNulls);
  const issues: FieldIssue[] = [];
  const refuse = (field: string, issue: string): void => void issues.push({ field, issue, location: 'body' });
  checkCondition(dto, refuse);
  checkDuration(dto, refuse);
  if (dto.clear) checkClear(dto.clear, dto, refuse);
  checkTags(dto.tags ?? {}, refuse);
  (dto.actions ?? []).forEach((action, n) => checkAction(action, `actions.${n}`, refuse));
  if (issues.length > 0) throw AppError.validation(issues);
  return {
    event_type: dto.event_type ?? null,
    sources: [...new Set(dto.sources ?? [])],
    tags: dto.tags ?? {},
    metric_name: dto.metric_name ?? null,
    operator: dto.operator ?? null,
    threshold: dto.threshold ?? null,
    condition: dto.condition ?? null,
    absent_for_seconds: dto.absent_for_seconds ?? null,
    for_seconds: dto.for_seconds ?? 0,
    times: dto.times ?? 1,
    clear: dto.clear ? clearOf(dto.clear) : null,
    clear_for_seconds: dto.clear_for_seconds ?? 0,
    flap_window_seconds: dto.flap_window_seconds ?? 0,
    group_by: dto.group_by ?? ['source'],
    actions: (dto.actions ?? []).map(actionOf),
  };
}

type Refuse = (field: string, issue: string) => void;

function checkCondition(dto: PutRuleDto, refuse: Refuse): void {
  const { metric_name: metric, operator, threshold, condition, absent_for_seconds: absent, event_type: type } = dto;
  const measured = operator !== undefined || threshold !== undefined;
  const kinds = [measured, condition !== undefined, absent !== undefined].filter(Boolean).length;
  if (kinds !== 1) {
    refuse('condition', 'a rule has either operator and threshold, or condition, or absent_for_seconds');
    return;
  }
  if (measured) {
    if (metric === undefined) refuse('metric_name', 'is required with a threshold');
    if (operator === undefined) refuse('operator', 'is required with threshold');
    if (threshold === undefined) refuse('threshold', 'is required with operator');
  }
  if (condition !== undefined) {
    checkExpression('condition', condition, refuse);
    if (metric === undefined && type === undefined) {
      refuse('condition', 'needs an event_type or a metric_name, so that not every event is evaluated');
    }
  }
}

function checkDuration(dto: PutRuleDto, refuse: Refuse): void {
  if ((dto.for_seconds ?? 0) > 0 && (dto.times ?? 1) > 1) refuse('times', 'goes instead of for_seconds, not with it');
  if (dto.absent_for_seconds === undefined) return;
  for (const field of ['for_seconds', 'times', 'clear', 'clear_for_seconds'] as const) {
    if (dto[field] !== undefined) refuse(field, 'does not go with absent_for_seconds: any data ends an absence');
  }
}

function checkClear(clear: ClearConditionDto, dto: PutRuleDto, refuse: Refuse): void {
  const { operator, threshold, condition } = clear;
  const measured = operator !== undefined || threshold !== undefined;
  if (measured === (condition !== undefined)) {
    refuse('clear', 'has either a threshold or a condition');
    return;
  }
  if (condition !== undefined) checkExpression('clear.condition', condition, refuse);
  else if (threshold === undefined) refuse('clear.threshold', 'is required with operator');
  else if (operator === undefined && dto.operator === undefined) {
    refuse('clear.operator', 'is required when the rule itself has none');
  }
}

function checkExpression(field: string, text: string, refuse: Refuse): void {
  try {
    compileExpression(text);
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error;
    refuse(field, error.message);
  }
}

function checkTags(tags: Record<string, string>, refuse: Refuse): void {
  const entries = Object.entries(tags);
  if (entries.length > MAX_TAGS) refuse('tags', `must not have more than ${MAX_TAGS} tags`);
  for (const [name, value] of entries) {
    if (name.length === 0 || name.length > MAX_TAG_CHARACTERS) {
      refuse('tags', `names must be 1 to ${MAX_TAG_CHARACTERS} characters`);
    } else if (typeof value !== 'string' || value.length > MAX_TAG_CHARACTERS) {
      refuse(`tags.${name}`, `must be a string of at most ${MAX_TAG_CHARACTERS} characters`);
    }
  }
}

const OF_COMMANDS = ['command_type', 'target', 'parameters', 'timeout_seconds'] as const;
/** What does not go with an action of each type. */
const FOREIGN = {
  command: ['webhook_id'],
  webhook: OF_COMMANDS,
  event: [...OF_COMMANDS, 'webhook_id'],
} as const;

function checkAction(action: RuleActionDto, field: string, refuse: Refuse): void {
  if (action.type === 'command') {
    if (JSON.stringify(action.parameters ?? {}).length > MAX_PARAMETER_BYTES) {
      refuse(`${field}.parameters`, `must not be larger than ${MAX_PARAMETER_BYTES} bytes`);
    }
  }
  for (const name of FOREIGN[action.type]) {
    if (action[name] !== undefined) refuse(`${field}.${name}`, `does not go with the type ${action.type}`);
  }
}

function withoutNulls<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null)) as T;
}

function clearOf({ operator, threshold, condition }: ClearConditionDto): ClearCondition {
  return { operator: operator ?? null, threshold: threshold ?? null, condition: condition ?? null };
}

function actionOf(action: RuleActionDto): RuleAction {
  if (action.type === 'event') return { type: 'event' };
  if (action.type === 'webhook') return { type: 'webhook', webhook_id: action.webhook_id ?? '' };
  return {
    type: 'command',
    command_type: action.command_type ?? '',
    target: action.target ?? '',
    parameters: action.parameters ?? {},
    timeout_seconds: action.timeout_seconds ?? null,
  };
}
