import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { JWK } from 'jose';
import { ConfigError } from '../../platform/config/index.js';
import type { SecuritySettings } from '../security.settings.js';
import type { MasterKeys } from '../../platform/crypto/index.js';

/** Keys of access tokens. All are of one algorithm, which is pinned: the first signs, all verify. */
export interface SigningKeys {
  readonly algorithm: 'HS256' | 'RS256' | 'EdDSA';
  readonly current: { readonly id: string; readonly key: Uint8Array | KeyObject };
  /** By key id; a token naming another one is refused. */
  readonly verifying: ReadonlyMap<string, Uint8Array | KeyObject>;
  /** Public keys for others to check tokens with; none for HS256. */
  readonly published: readonly JWK[];
}

const SETTING = 'NEXUS_JWT_KEY_FILES';
const MIN_RSA_BITS = 2048;

/**
 * Private keys from files when they are set, else secrets, else keys derived from the master keys.
 * @throws ConfigError naming the setting and the file, never what is in it
 */
export function signingKeys(settings: SecuritySettings, masterKeys: MasterKeys): SigningKeys {
  if (settings.jwtKeyFiles.length > 0) {
    if (settings.jwtSecret.length > 0) throw new ConfigError(`${SETTING}: not together with NEXUS_JWT_SECRET`);
    return asymmetric(settings.jwtKeyFiles);
  }
  const keys =
    settings.jwtSecret.length === 0
      ? masterKeys.derived('access-token')
      : settings.jwtSecret.map((secret) => ({
          id: digest(`nexus/kid/${secret}`).slice(0, 12),
          key: Buffer.from(secret),
        }));
  return {
    algorithm: 'HS256',
    current: keys[0],
    verifying: new Map(keys.map(({ id, key }) => [id, key])),
    published: [],
  };
}

function asymmetric(files: readonly string[]): SigningKeys {
  const keys = files.map(readKey);
  const [{ algorithm }] = keys;
  if (keys.some((key) => key.algorithm !== algorithm)) {
    throw new ConfigError(`${SETTING}: all keys must be of one kind`);
  }
  return {
    algorithm,
    current: { id: keys[0].id, key: keys[0].secret },
    verifying: new Map(keys.map((key) => [key.id, key.open])),
    published: keys.map((key) => ({ ...key.jwk, kid: key.id, alg: algorithm, use: 'sig' })),
  };
}

function readKey(file: string): {
  algorithm: 'RS256' | 'EdDSA';
  id: string;
  secret: KeyObject;
  open: KeyObject;
  jwk: JWK;
} {
  let secret: KeyObject;
  try {
    secret = createPrivateKey(readFileSync(file));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new ConfigError(`${SETTING}: ${file} is not a readable PEM private key (${code})`);
  }
  const open = createPublicKey(secret);
  const jwk = open.export({ format: 'jwk' }) as JWK;
  if (secret.asymmetricKeyType === 'ed25519') {
    return { algorithm: 'EdDSA', id: thumbprint({ crv: jwk.crv, kty: jwk.kty, x: jwk.x }), secret, open, jwk };
  }
  if (secret.asymmetricKeyType === 'rsa' && (secret.asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS) {
    return { algorithm: 'RS256', id: thumbprint({ e: jwk.e, kty: jwk.kty, n: jwk.n }), secret, open, jwk };
  }
  throw new ConfigError(`${SETTING}: ${file} must hold an Ed25519 key or an RSA key of at least ${MIN_RSA_BITS} bits`);
}

/** RFC 7638; the members are given in their order. */
function thumbprint(members: object): string {
  return digest(JSON.stringify(members));
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
