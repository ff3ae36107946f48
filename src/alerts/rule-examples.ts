/** Whole rules: several fields of a rule exclude each other, so that an example made up of all its fields is refused. */
export const RULE_EXAMPLES = {
  threshold: {
    summary: 'A value is beyond a threshold',
    value: {
      name: 'CPU too high',
      description: 'Page the team on duty',
      severity: 'critical',
      event_type: 'system.metric',
      sources: ['web-*'],
      metric_name: 'cpu_usage',
      operator: 'gt',
      threshold: 90,
      for_seconds: 60,
      clear: { operator: 'lt', threshold: 70 },
      actions: [
        {
          type: 'command',
          command_type: 'restart',
          target: '{{source}}',
          parameters: { reason: '{{rule_name}}: {{value}}' },
          timeout_seconds: 60,
        },
      ],
    },
  },
  expression: {
    summary: 'An expression over the event is true, three times in a row',
    value: {
      name: 'Errors in production',
      event_type: 'system.metric',
      metric_name: 'http_errors',
      condition: 'value > 10.0 && tags.environment == "production"',
      times: 3,
      group_by: ['tag.host'],
      actions: [{ type: 'event' }],
    },
  },
  absence: {
    summary: 'A source has stopped sending',
    value: { name: 'Host is silent', event_type: 'system.metric', metric_name: 'cpu_usage', absent_for_seconds: 300 },
  },
};

export const RULE_TEST_EXAMPLES = {
  threshold: {
    summary: RULE_EXAMPLES.threshold.summary,
    value: {
      rule: RULE_EXAMPLES.threshold.value,
      event: { event_type: 'system.metric', source: 'web-1', data: { metric_name: 'cpu_usage', value: 95 } },
    },
  },
};
