/** Least urgent first. The words of both kinds of alerts that the API knows and security alerts. */
export const SEVERITIES = ['info', 'low', 'medium', 'warning', 'high', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

export const OPERATORS = ['gt', 'gte', 'lt', 'lte', 'eq', 'ne'] as const;
export type Operator = (typeof OPERATORS)[number];

const SIGNS = new Map<unknown, Operator>([
  ['>', 'gt'],
  ['>=', 'gte'],
  ['<', 'lt'],
  ['<=', 'lte'],
  ['=', 'eq'],
  ['!=', 'ne'],
]);
/** How an operator may be written in a request. */
export const OPERATOR_SPELLINGS = [...OPERATORS, ...(SIGNS.keys() as Iterable<string>)];

/** The word for a sign; everything else as it came. */
export function operatorWord(spelling: unknown): unknown {
  return SIGNS.get(spelling) ?? spelling;
}

/** What is done once when an alert is raised, besides telling of it. */
export type RuleAction =
  | {
      type: 'command';
      command_type: string;
      /** As for a command: agent id or name, `label:key=value`, `group:name`; placeholders allowed. */
      target: string;
      parameters: Record<string, unknown>;
      timeout_seconds: number | null;
    }
  /** `webhook_id` is its public id. It is told of the end too. */
  | { type: 'webhook'; webhook_id: string }
  | { type: 'event' };

/** What makes an alert end sooner or later than the opposite of what raised it (hysteresis). */
export interface ClearCondition {
  operator: Operator | null;
  threshold: number | null;
  condition: string | null;
}

/** The part of a rule that is evaluated, as stored; names are those of the API. */
export interface RuleDefinition {
  event_type: string | null;
  /** Names or patterns with `*`; empty: any. */
  sources: string[];
  /** Tags an event must carry. */
  tags: Record<string, string>;
  metric_name: string | null;
  operator: Operator | null;
  threshold: number | null;
  /** A CEL expression, instead of operator and threshold. */
  condition: string | null;
  /** Seconds without data, instead of a condition. */
  absent_for_seconds: number | null;
  for_seconds: number;
  times: number;
  clear: ClearCondition | null;
  clear_for_seconds: number;
  flap_window_seconds: number;
  /** `source` and `tag.<name>`; empty: one alert for all. */
  group_by: string[];
  actions: RuleAction[];
}
