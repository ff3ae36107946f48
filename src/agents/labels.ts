import { registerDecorator } from 'class-validator';
import { AppError } from '../platform/errors/index.js';

const KEY = /^[A-Za-z0-9._/-]{1,63}$/;
const VALUE = /^\P{C}{0,63}$/u;
const MAX_LABELS = 64;

/** Labels are up to 64 pairs of a word and a short text. */
function areLabels(value: unknown): value is Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const pairs = Object.entries(value);
  return pairs.length <= MAX_LABELS && pairs.every(([k, v]) => KEY.test(k) && typeof v === 'string' && VALUE.test(v));
}

/** How the API document describes labels. */
export const LABELS_SCHEMA = { type: 'object', additionalProperties: { type: 'string' } } as const;

export function IsLabels(): PropertyDecorator {
  return (target, property) =>
    registerDecorator({
      name: 'isLabels',
      target: target.constructor,
      propertyName: String(property),
      validator: {
        validate: areLabels,
        defaultMessage: () =>
          `must map up to ${MAX_LABELS} keys (1 to 63 letters, digits, ".", "_", "/", "-") to texts of at most 63 characters`,
      },
    });
}

/**
 * `key=value[,key=value]` to labels; a value may hold `=`.
 * @throws AppError `validation` naming `field`, also when a key is given twice
 */
export function parseLabels(text: string, field: string): Record<string, string> {
  const pairs = text.split(',').map((pair): [string, string | undefined] => {
    const at = pair.indexOf('=');
    return at < 0 ? [pair.trim(), undefined] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  });
  if (pairs.some(([key, value]) => !KEY.test(key) || value === undefined || !VALUE.test(value))) {
    throw AppError.validation({ field, issue: 'is not a list of labels', expected: 'key=value[,key=value]' });
  }
  const labels = Object.fromEntries(pairs) as Record<string, string>;
  if (Object.keys(labels).length < pairs.length) {
    throw AppError.validation({ field, issue: 'a label is given twice', expected: 'each label once' });
  }
  return labels;
}
