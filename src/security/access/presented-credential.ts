import type { IncomingHttpHeaders } from 'node:http';
import { AppError } from '../../platform/errors/index.js';

/** What a request shows to prove who it is from. */
export interface PresentedCredential {
  readonly kind: 'jwt' | 'key';
  readonly text: string;
}

const BEARER = /^Bearer +([^\s]+)$/i;
/** Node joins a header that was sent twice. A comma before a scheme starts another credential, one before `name=` a parameter. */
const SECOND = /,\s*[\w-]+\s+[^\s=]/;
const KEY = /^nexus_(api|tok|agent)_/;
/** What a caller without a valid credential is told to send. */
const ACCEPTED = {
  accepted_headers: ['Authorization: Bearer <API key, access token or agent key>', 'X-API-Key: <API key>'],
};
/** Longest credential looked at, in characters. */
const LONGEST = 8192;

/**
 * The one credential of a request: `X-API-Key`, or `Authorization: Bearer` sorted by its shape.
 * @throws AppError `validation` for two different ones, `unauthenticated` for none or one of no known shape
 */
export function presentedCredential(headers: IncomingHttpHeaders): PresentedCredential {
  const { authorization } = headers;
  const apiKey = headers['x-api-key'];
  if (authorization === undefined && apiKey === undefined) {
    throw AppError.unauthenticated(
      'CREDENTIALS_MISSING',
      'Authentication is required: send the header Authorization: Bearer <key or token>, or X-API-Key: <key>',
      { details: ACCEPTED },
    );
  }
  if (authorization !== undefined && SECOND.test(authorization)) throw severalCredentials();
  const bearer = authorization === undefined ? undefined : BEARER.exec(authorization)?.[1];
  if (authorization !== undefined && bearer === undefined) {
    throw invalidToken('The Authorization header must be: Bearer <token or key>');
  }
  const header = typeof apiKey === 'string' ? apiKey.trim() : apiKey;
  if (Array.isArray(header) || header?.includes(',') || (bearer && header !== undefined && bearer !== header)) {
    throw severalCredentials();
  }
  const text = bearer ?? header ?? '';
  if (text.length > LONGEST) throw invalidToken();
  if (KEY.test(text)) return { kind: 'key', text };
  if (bearer !== undefined && header === undefined && bearer.split('.').length === 3) return { kind: 'jwt', text };
  throw invalidToken();
}

function severalCredentials(): AppError {
  return AppError.validation({
    field: 'Authorization',
    issue: 'only one credential may be sent',
    expected: 'one credential',
    location: 'header',
  });
}

export function invalidToken(message = 'The credential is not valid'): AppError {
  return refused('TOKEN_INVALID', message);
}

export function expiredToken(): AppError {
  return refused('TOKEN_EXPIRED', 'The credential has expired');
}

/** The challenge is that of RFC 6750, section 3.1. */
function refused(type: string, message: string): AppError {
  const challenge = `Bearer realm="nexus", error="invalid_token", error_description="${message}"`;
  return AppError.unauthenticated(type, message, { details: ACCEPTED, headers: { 'WWW-Authenticate': challenge } });
}
