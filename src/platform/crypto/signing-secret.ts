import { createHmac, randomBytes } from 'node:crypto';
import { ValidateBy } from 'class-validator';
import { AppError } from '../errors/index.js';

const PREFIX = 'whsec_';
const MIN_KEY_BYTES = 24;
const MAX_KEY_BYTES = 64;
const OTHER_SECRET = /^[\x21-\x7e]{16,256}$/;
const RULE = `must be 16 to 256 printable ASCII characters, and what follows ${PREFIX} base64 of ${MIN_KEY_BYTES} to ${MAX_KEY_BYTES} bytes`;

/** A message as Standard Webhooks 1.0 signs it. */
export interface StandardMessage {
  id: string;
  /** Unix seconds, as sent. */
  timestamp: string;
  body: Buffer | string;
}

/** A secret in the form of Standard Webhooks; of 32 random bytes when none are given. */
export function newSigningSecret(key: Buffer = randomBytes(32)): string {
  return PREFIX + key.toString('base64');
}

/**
 * The bytes that a secret stands for: of `whsec_<base64>` those it encodes, of any other secret its text.
 * @returns null when what follows `whsec_` is not base64 of enough bytes: its key could be guessed
 */
function keyOf(secret: string): Buffer | null {
  if (!secret.startsWith(PREFIX)) return Buffer.from(secret);
  const text = secret.slice(PREFIX.length);
  const key = Buffer.from(text, 'base64');
  const whole = key.toString('base64') === text;
  return whole && key.length >= MIN_KEY_BYTES && key.length <= MAX_KEY_BYTES ? key : null;
}

/** The signatures `v1,<base64>` of these secrets; none of a secret whose key could be guessed. */
export function standardSignatures({ id, timestamp, body }: StandardMessage, secrets: readonly string[]): string[] {
  return secrets
    .map(keyOf)
    .filter((key) => key !== null)
    .map((key) => `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`);
}

export function isSigningSecret(value: unknown): boolean {
  return typeof value === 'string' && OTHER_SECRET.test(value) && keyOf(value) !== null;
}

/**
 * Receivers know two secrets at most: the current one and the one before.
 * @param previousUntil when the overlap of an earlier rotation ends; null when none is under way
 * @throws AppError `conflict` during such an overlap, unless the new one has none: then both older secrets end at once
 */
export function assertRotatable(previousUntil: Date | null, overlapSeconds: number): void {
  if (previousUntil === null || overlapSeconds === 0) return;
  const previous_secret_until = previousUntil.toISOString();
  throw AppError.conflict(
    `The secret before is valid until ${previous_secret_until}; rotate after that, or with overlap_seconds 0 to end both older secrets at once`,
    { previous_secret_until },
  );
}

/** For a secret that the caller chooses. */
export function IsSigningSecret(): PropertyDecorator {
  return ValidateBy({
    name: 'isSigningSecret',
    validator: { validate: isSigningSecret, defaultMessage: (args) => `${args?.property} ${RULE}` },
  });
}
