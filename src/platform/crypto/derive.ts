import { hkdfSync } from 'node:crypto';

/**
 * Derives an independent key from a master key (HKDF-SHA-256, RFC 5869).
 * @param purpose one name per use; two purposes never give the same key
 * @param bytes length of the derived key
 */
export function deriveKey(master: Buffer, purpose: string, bytes = 32): Buffer {
  return Buffer.from(hkdfSync('sha256', master, Buffer.alloc(0), `nexus/${purpose}`, bytes));
}
