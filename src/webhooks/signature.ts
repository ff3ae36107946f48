import { createHmac } from 'node:crypto';

export interface SignedMessage {
  /** The same in every attempt. */
  id: string;
  /** Unix seconds of this attempt. */
  timestamp: number;
  body: Buffer;
}

const STANDARD_PREFIX = 'whsec_';

/**
 * Both signatures of one attempt (rows WHK-03, WHK-05): `X-Nexus-Signature` over the exact bytes of the body, and those of Standard
 * Webhooks 1.0 over id, time and body. While a secret is being replaced both secrets sign.
 * @param secrets the current one first
 */
export function signatureHeaders(message: SignedMessage, secrets: readonly string[]): Record<string, string> {
  const { id, timestamp, body } = message;
  const [current, previous] = secrets;
  return {
    'x-nexus-signature': nexusSignature(body, current),
    ...(previous === undefined ? {} : { 'x-nexus-signature-previous': nexusSignature(body, previous) }),
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': secrets.map((secret) => standardSignature(message, secret)).join(' '),
  };
}

function nexusSignature(body: Buffer, secret: string): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}

/** A secret `whsec_<base64>` stands for the bytes that it encodes, any other one for itself. */
function standardSignature({ id, timestamp, body }: SignedMessage, secret: string): string {
  const key = secret.startsWith(STANDARD_PREFIX)
    ? Buffer.from(secret.slice(STANDARD_PREFIX.length), 'base64')
    : Buffer.from(secret);
  const hmac = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body);
  return `v1,${hmac.digest('base64')}`;
}
