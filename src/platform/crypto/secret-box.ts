import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { deriveKey } from './derive.js';
import type { MasterKey } from './master-key.js';

/** Why a box could not be opened. The message holds neither the box nor the secret. */
export class SecretBoxError extends Error {
  constructor(readonly reason: 'malformed' | 'unknown_key' | 'tampered') {
    super(
      {
        malformed: 'Not an encrypted value',
        unknown_key: 'Encrypted with a master key that is not loaded',
        tampered: 'Encrypted value does not belong here or was changed',
      }[reason],
    );
    this.name = 'SecretBoxError';
  }
}

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const BOX = /^v1\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]*)$/;

/**
 * Encrypts secrets that must be read back: AES-256-GCM under a key derived for each context, stored as
 * `v1.<keyId>.<nonce>.<tag>.<ciphertext>` (base64url). The context (table, row id and column) is authenticated, so a value
 * copied to another row or column does not open. Several master keys may be loaded; the first one encrypts.
 */
export class SecretBox {
  private readonly keys: ReadonlyMap<string, Buffer>;
  /** Id of the key that encrypts. */
  readonly currentKeyId: string;

  constructor(keys: readonly MasterKey[]) {
    if (keys.length === 0) throw new TypeError('SecretBox needs a key');
    this.keys = new Map(keys.map(({ id, key }) => [id, key]));
    this.currentKeyId = keys[0].id;
  }

  encrypt(plaintext: string, context: string): string {
    const head = `v1.${this.currentKeyId}`;
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.dataKey(this.currentKeyId, context), nonce);
    cipher.setAAD(Buffer.from(`${head}.${context}`));
    const body = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()]);
    return [
      head,
      nonce.toString('base64url'),
      cipher.getAuthTag().toString('base64url'),
      body.toString('base64url'),
    ].join('.');
  }

  /** @throws SecretBoxError when the box is malformed, its key is not loaded, or it fails authentication */
  decrypt(box: string, context: string): string {
    const [keyId, nonce, tag, body] = split(box);
    const decipher = createDecipheriv(CIPHER, this.dataKey(keyId, context), Buffer.from(nonce, 'base64url'), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(`v1.${keyId}.${context}`));
    decipher.setAuthTag(Buffer.from(tag, 'base64url'));
    try {
      return Buffer.concat([decipher.update(body, 'base64url'), decipher.final()]).toString('utf8');
    } catch {
      throw new SecretBoxError('tampered');
    }
  }

  /** @throws SecretBoxError when the text is not a box */
  keyIdOf(box: string): string {
    return split(box)[0];
  }

  /** True when the box was made with another key than the one that encrypts now. */
  needsRotation(box: string): boolean {
    return this.keyIdOf(box) !== this.currentKeyId;
  }

  /** One key per context keeps random nonces far from their birthday bound however many rows there are. */
  private dataKey(keyId: string, context: string): Buffer {
    const key = this.keys.get(keyId);
    if (!key) throw new SecretBoxError('unknown_key');
    return deriveKey(key, `secret-box/${context}`);
  }
}

function split(box: string): [keyId: string, nonce: string, tag: string, body: string] {
  const match = BOX.exec(box);
  if (!match) throw new SecretBoxError('malformed');
  return [match[1], match[2], match[3], match[4]];
}
