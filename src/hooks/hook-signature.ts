import { createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { safeEqual, standardSignatures } from '../platform/crypto/index.js';

/** `standard`: Standard Webhooks 1.0; `nexus`: `X-Nexus-Signature`; `github`: `X-Hub-Signature-256`. */
export const HOOK_SCHEMES = ['standard', 'nexus', 'github'] as const;
export type HookScheme = (typeof HOOK_SCHEMES)[number];

/** The headers of each scheme, for a caller who has sent none that is right. */
export const SIGNATURE_HEADERS: Record<HookScheme, string[]> = {
  standard: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
  nexus: ['X-Nexus-Signature'],
  github: ['X-Hub-Signature-256'],
};

/** A call whose signature is right. */
export interface VerifiedCall {
  /** Tells repeats of one message from new ones; null when the sender gave none. */
  messageId: string | null;
}

/** How far the clocks of sender and server may be apart, in seconds. */
const TOLERANCE = 300;
const MOST_SIGNATURES = 10;
/** No full stop: it separates the parts that are signed. */
const MESSAGE_ID = /^[\x21-\x2d\x2f-\x7e]{1,256}$/;

/**
 * Checks the signature of a call over the exact bytes of its body, in constant time.
 * @param secrets those that are valid now
 * @param now Unix seconds
 * @returns null when no secret fits, a header is missing, or the time is off
 */
export function verifyCall(
  scheme: HookScheme,
  secrets: readonly string[],
  headers: IncomingHttpHeaders,
  body: Buffer,
  now: number,
): VerifiedCall | null {
  if (scheme === 'standard') return verifyStandard(secrets, headers, body, now);
  const [signature, id] =
    scheme === 'nexus'
      ? [headers['x-nexus-signature'], headers['webhook-id']]
      : [headers['x-hub-signature-256'], headers['x-github-delivery']];
  const expected = secrets.map((secret) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`);
  if (!anyEqual([single(signature) ?? ''], expected)) return null;
  const messageId = single(id);
  return { messageId: messageId !== undefined && MESSAGE_ID.test(messageId) ? messageId : null };
}

function verifyStandard(
  secrets: readonly string[],
  headers: IncomingHttpHeaders,
  body: Buffer,
  now: number,
): VerifiedCall | null {
  const messageId = single(headers['webhook-id']) ?? '';
  const timestamp = single(headers['webhook-timestamp']) ?? '';
  const given = (single(headers['webhook-signature']) ?? '').split(' ').slice(0, MOST_SIGNATURES);
  const expected = standardSignatures({ id: messageId, timestamp, body }, secrets);
  const fits = anyEqual(given, expected);
  const inTime = /^\d{1,12}$/.test(timestamp) && Math.abs(now - Number(timestamp)) <= TOLERANCE;
  return fits && inTime && MESSAGE_ID.test(messageId) ? { messageId } : null;
}

/** Compares all with all, so that the time does not tell which one was right. */
function anyEqual(given: readonly string[], expected: readonly string[]): boolean {
  let found = false;
  for (const one of given) {
    for (const other of expected) found = safeEqual(Buffer.from(one), Buffer.from(other)) || found;
  }
  return found;
}

function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? undefined : header;
}
