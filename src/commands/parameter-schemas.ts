import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { LRUCache } from 'lru-cache';
import { AppError, type FieldIssue } from '../platform/errors/index.js';
import { canonicalText, countValues, expandedSize, RecursiveSchemaError } from './schema-cost.js';

const MAX_BYTES = 32 * 1024;
const MAX_DEPTH = 16;
/** Keywords and values of a schema with everything in place of its references. */
const MAX_EXPANDED = 5000;
/** Of the above times the values that are checked: some hundred milliseconds at worst. */
const MAX_CHECKS = 20_000_000;
/** Keywords that could make checking a value slow without bound, or reach outside the schema. */
const REFUSED = new Set([
  'pattern',
  'patternProperties',
  '$dynamicRef',
  '$recursiveRef',
  '$anchor',
  '$dynamicAnchor',
  '$async',
]);

/** Up to so many checks every wrong parameter is named, past it only the first: each one is an object that stays until the end. */
const MAX_CHECKS_NAMING_ALL = 100_000;

const namingAll = makeAjv(true);
const namingFirst = makeAjv(false);

interface CompiledSchema {
  size: number;
  namingAll: ValidateFunction;
  namingFirst: ValidateFunction;
}

const compiled = new LRUCache<string, CompiledSchema>({ max: 500 });

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
  const validators = compile(JSON.stringify(schema));
  const checks = validators.size * countValues(parameters);
  if (checks > MAX_CHECKS) {
    throw AppError.validation({
      field: 'parameters',
      issue: 'has too many values for the schema of this command type',
    });
  }
  const validate = checks > MAX_CHECKS_NAMING_ALL ? validators.namingFirst : validators.namingAll;
  if (validate(parameters)) return;
  throw AppError.validation((validate.errors ?? []).slice(0, 50).map(issueOf));
}

function makeAjv(allErrors: boolean): Ajv2020 {
  const ajv = new Ajv2020({ allErrors, strict: false, validateFormats: true, addUsedSchema: false });
  addFormats.default(ajv, { mode: 'fast', keywords: false });
  // The library compares each item with each other one.
  ajv.removeKeyword('uniqueItems');
  ajv.addKeyword({
    keyword: 'uniqueItems',
    type: 'array',
    schemaType: 'boolean',
    error: { message: 'must not hold the same item twice' },
    validate: (unique: boolean, items: unknown[]) => !unique || new Set(items.map(canonicalText)).size === items.length,
  });
  return ajv;
}

function compile(text: string): CompiledSchema {
  const known = compiled.get(text);
  if (known) return known;
  try {
    const schema = JSON.parse(text) as Record<string, unknown>;
    const made = {
      size: expandedSize(schema),
      namingAll: namingAll.compile(schema),
      namingFirst: namingFirst.compile(schema),
    };
    compiled.set(text, made);
    return made;
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, 300) : 'unknown';
    throw AppError.validation({
      field: 'parameters',
      issue: `is not a usable JSON Schema: ${reason}`,
      expected: 'a JSON Schema (2020-12)',
    });
  }
}

function objectionTo(schema: Record<string, unknown>): string | null {
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
  return walk(schema, 1) ?? sizeObjection(schema);
}

function sizeObjection(schema: Record<string, unknown>): string | null {
  try {
    const tooLarge = expandedSize(schema) > MAX_EXPANDED;
    return tooLarge ? `must not be larger than ${MAX_EXPANDED} values with what its references name` : null;
  } catch (error) {
    if (error instanceof RecursiveSchemaError) return 'must not be recursive: a $ref leads back to where it stands';
    throw error;
  }
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
