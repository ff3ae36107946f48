import { Ajv, type ValidateFunction } from 'ajv';
import type { AgentFrame } from '@nexus/agent/protocol';

const id = { type: 'string', format: 'uuid' } as const;
const text = (maxLength: number) => ({ type: 'string', maxLength }) as const;
const whole = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER } as const;
const time = { type: 'string', maxLength: 40, format: 'time' } as const;
const labels = {
  type: 'object',
  maxProperties: 64,
  propertyNames: { pattern: '^[A-Za-z0-9._/-]{1,63}$' },
  additionalProperties: { type: 'string', maxLength: 63 },
} as const;

/** Fields of each frame; `?` marks those that may be missing. What a frame has besides is for newer servers: ignored. */
const FIELDS: { [T in AgentFrame['type']]: Record<string, object> } = {
  hello: {
    protocol: { type: 'integer' },
    agent_version: text(100),
    boot_id: text(100),
    hostname: text(255),
    platform: text(100),
    labels,
    capabilities: { type: 'array', maxItems: 100, items: text(100) },
    commands: {
      type: 'array',
      maxItems: 500,
      items: {
        type: 'object',
        required: ['type'],
        properties: {
          type: { type: 'string', pattern: '^[a-z][a-z0-9_.-]{0,99}$' },
          description: text(500),
          timeout_seconds: { type: 'number', exclusiveMinimum: 0, maximum: 86_400 },
          idempotent: { type: 'boolean' },
        },
      },
    },
    unfinished: { type: 'array', maxItems: 5000, items: id },
  },
  heartbeat: { load_percent: { type: 'number', minimum: 0, maximum: 100 }, running: whole, spooled_batches: whole },
  telemetry: { batch_id: id, events: { type: 'array', minItems: 1, maxItems: 1000, items: { type: 'object' } } },
  command_ack: { command_id: id },
  command_started: { command_id: id, started_at: time },
  command_output: {
    command_id: id,
    stream: { enum: ['stdout', 'stderr'] },
    offset: whole,
    encoding: { enum: ['utf8', 'base64'] },
    data: { type: 'string', minLength: 1 },
  },
  command_result: {
    command_id: id,
    status: { enum: ['completed', 'failed', 'cancelled', 'timed_out'] },
    message: text(4000),
    exit_code: { type: 'integer', nullable: true },
    signal: { ...text(40), nullable: true },
    started_at: { ...time, nullable: true },
    completed_at: time,
    duration_ms: { type: 'number', minimum: 0 },
    output_bytes: whole,
    output_truncated: { type: 'boolean' },
    'data?': {},
    'error?': {
      type: 'object',
      required: ['code', 'message'],
      properties: { code: text(100), message: text(4000) },
    },
  },
  command_refused: { command_id: id, code: text(100), message: text(4000) },
};

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const ajv = new Ajv({
  allErrors: false,
  formats: {
    uuid: UUID,
    time: (value: string) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(value) && !Number.isNaN(Date.parse(value)),
  },
});

const validators = new Map<string, ValidateFunction>(
  Object.entries(FIELDS).map(([type, fields]) => {
    const names = Object.keys(fields);
    const schema = {
      type: 'object',
      required: names.filter((name) => !name.endsWith('?')),
      properties: Object.fromEntries(names.map((name) => [name.replace('?', ''), fields[name]])),
    };
    return [type, ajv.compile(schema)];
  }),
);

/** Every type of frame an agent may send. */
export const FRAME_TYPES: readonly AgentFrame['type'][] = Object.keys(FIELDS) as AgentFrame['type'][];

/** Checks a parsed message; a string says what is wrong with it. */
export function toAgentFrame(value: unknown): AgentFrame | string {
  const type = (value as { type?: unknown } | null)?.type;
  const validate = typeof type === 'string' ? validators.get(type) : undefined;
  if (!validate) return 'unknown frame type';
  if (validate(value)) return value as AgentFrame;
  const error = validate.errors?.[0];
  return `${String(type)}${error?.instancePath.replaceAll('/', '.') ?? ''} ${error?.message ?? 'is not valid'}`;
}
