import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { LRUCache } from 'lru-cache';
import { AppError, type FieldIssue } from '../platform/errors/index.js';

const MAX_BYTES = 32 * 1024;
const MAX_DEPTH = 16;
/** Keywords that could make checking a value slow without bound, or reach outside the schema. */
const REFUSED = new Set(['pattern', 'patternProperties', '$dynamicRef', '$recursiveRef', '$async']);

const ajv = new Ajv2020({ allErrors: true, strict: false, validateFormats: true, addUsedSchema: false });
addFormats.default(ajv, { mode: 'fast', keywords: false });

const compiled = new LRUCache<string, ValidateFunction>({ max: 500 });

/** Checks a user's schema of command parameters: JSON Schema 2020-12, bounded in size and depth, self-contained. */
export function checkSchema(schema: Record<string, unknown>): void {
  const issue = objectionTo(schema);
  if (issue) {
    throw AppError.validation({ field: 'parameters', issue, expected: 'a bounded, self-contained JSON Schema' });
  }
  compile(JSON.stringify(schema));
}

/** @throws AppError `validation` naming every wrong parameter by its path */
export function checkParameters(schema: Record<string, unknown>, parameters: Record<string, unknown>): void {
  const validate = compile(JSON.stringify(schema));
  if (validate(parameters)) return;
  throw AppError.validation((validate.errors ?? []).slice(0, 50).map(issueOf));
}

function compile(text: string): ValidateFunction {
  const known = compiled.get(text);
  if (known) return known;
  try {
    const validate = ajv.compile(JSON.parse(text) as Record<string, unknown>);
    compiled.set(text, validate);
    return validate;
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, 300) : 'unknown';
    throw AppError.validation({
      field: 'parameters',
      issue: `is not a usable JSON Schema: ${reason}`,
      expected: 'a JSON Schema (2020-12)',
    });
  }
}

function objectionTo(schema: unknown): string | null {
  if (JSON.stringify(schema).length > MAX_BYTES) return `must not be larger than ${MAX_BYTES} bytes`;
  const walk = (value: unknown, depth: number): string | null => {
    if (typeof value !== 'object' || value === null) return null;
    if (depth > MAX_DEPTH) return `must not be nested deeper than ${MAX_DEPTH}`;
    for (const [key, inner] of Object.entries(value)) {
      if (REFUSED.has(key)) return `must not use ${key}`;
      if (key === '$id') return 'must not name itself ($id)';
      if (key === '$ref' && (typeof inner !== 'string' || !inner.startsWith('#'))) return 'may refer only to itself';
      const issue = walk(inner, depth + 1);
      if (issue) return issue;
    }
    return null;
  };
  return walk(schema, 1);
}

function issueOf(error: ErrorObject): FieldIssue {
  const params = error.params as Record<string, unknown>;
  const name = params.missingProperty ?? params.additionalProperty ?? params.unevaluatedProperty;
  const path = error.instancePath.split('/').slice(1).map(unescapePointer);
  if (typeof name === 'string') path.push(name);
  return {
    field: ['parameters', ...path].join('.'),
    issue: error.message ?? error.keyword,
    expected: typeof params.missingProperty === 'string' ? 'a value' : undefined,
    location: 'body',
  };
}

function unescapePointer(part: string): string {
  return part.replaceAll('~1', '/').replaceAll('~0', '~');
}
