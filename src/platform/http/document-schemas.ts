type Json = Record<string, unknown>;

/** Converts keywords of OpenAPI 3.0 to JSON Schema 2020-12. The scanner has already converted `nullable`. */
export function modernise(node: unknown): void {
  if (Array.isArray(node)) return node.forEach(modernise);
  if (typeof node !== 'object' || node === null) return;
  const schema = node as Json;
  for (const [flag, bound] of [
    ['exclusiveMinimum', 'minimum'],
    ['exclusiveMaximum', 'maximum'],
  ]) {
    if (schema[flag] === true) {
      schema[flag] = schema[bound];
      delete schema[bound];
    } else if (schema[flag] === false) delete schema[flag];
  }
  Object.values(schema).forEach(modernise);
}

/** The schema of every error body. */
export function errorSchema(): Json {
  const text = { type: 'string' };
  const time = { type: 'string', format: 'date-time' };
  return {
    type: 'object',
    description: 'Every refusal and failure.',
    required: ['success', 'error', 'timestamp', 'request_id'],
    properties: {
      success: { type: 'boolean', const: false },
      error: {
        type: 'object',
        required: ['code', 'message', 'details', 'request_id', 'timestamp'],
        properties: {
          code: { ...text, description: 'Stable word for programs', examples: ['VALIDATION_ERROR'] },
          message: { ...text, description: 'For people' },
          type: { ...text, description: 'Finer than `code`, e.g. `TOKEN_EXPIRED`' },
          details: {
            description: 'For `VALIDATION_ERROR` one entry per wrong field; an object for every other code',
            oneOf: [
              {
                type: 'array',
                items: {
                  type: 'object',
                  required: ['field', 'issue'],
                  properties: {
                    field: text,
                    issue: text,
                    reason: text,
                    expected: text,
                    received: text,
                    location: { ...text, enum: ['body', 'query', 'path', 'header'] },
                  },
                },
              },
              { type: 'object', additionalProperties: true },
            ],
          },
          request_id: text,
          timestamp: time,
          retry_after: { type: 'integer', minimum: 0, description: 'Seconds to wait' },
          limit: { type: 'integer', minimum: 0, description: 'Requests allowed in the window' },
          window: { ...text, description: 'The window in words', examples: ['1 minute'] },
        },
      },
      timestamp: time,
      request_id: text,
    },
  };
}
