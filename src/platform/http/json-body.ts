import type { IncomingMessage } from 'node:http';
import { AppError } from '../errors/index.js';
import { type BodyLimits, parseJsonBody } from './body-guard.js';
import { isJson, readBody } from './read-body.js';

const BODY_LIMITS: BodyLimits = { maxDepth: 64, maxKeys: 10_000, maxKeyLength: 256 };

/**
 * Reads and checks the JSON body of a write (GEN-19..21, GEN-33); undefined when there is none.
 * @throws AppError `unsupported_media`, `too_large`, `validation` with the path of what is wrong
 */
export async function readJsonBody(
  request: IncomingMessage,
  byteLimit: number,
  limits: BodyLimits = BODY_LIMITS,
): Promise<{ raw: Buffer; value: unknown } | undefined> {
  if (!hasJsonBody(request)) return undefined;
  const raw = await readBody(request, byteLimit);
  return { raw, value: jsonOf(raw, limits) };
}

/** False without a body. @throws AppError `unsupported_media` when it says that it is something else */
export function hasJsonBody({ headers }: IncomingMessage): boolean {
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  if (hasBody && !isJson(headers['content-type'])) {
    throw new AppError('unsupported_media', 'The body must be JSON (Content-Type: application/json)');
  }
  return hasBody;
}

/** Parses and checks what was read. @throws AppError `validation` with the path of what is wrong */
export function jsonOf(raw: Buffer, limits: BodyLimits): unknown {
  const parsed = parseJsonBody(raw, limits);
  if ('problem' in parsed) {
    throw AppError.validation({ field: parsed.problem.path, issue: parsed.problem.reason, location: 'body' });
  }
  return parsed.value;
}
