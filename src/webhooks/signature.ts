import { createHmac } from 'node:crypto';
import { standardSignatures } from '../platform/crypto/index.js';

export interface SignedMessage {
  /** The same in every attempt. */
  id: string;
  /** Unix seconds of this attempt. */
  timestamp: number;
  body: Buffer;
}

/**
 * Both signatures of one attempt: `X-Nexus-Signature` over the exact bytes of the body, and that of Standard
 * Webhooks 1.0 over id, time and body. While a secret is being replaced, both secrets sign.
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
    'webhook-signature': standardSignatures({ id, timestamp: String(timestamp), body }, secrets).join(' '),
  };
}

function nexusSignature(body: Buffer, secret: string): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}
