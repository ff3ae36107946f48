import { hash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** `api`: keys of people and services; `tok`: service tokens; `agent`: keys of agents. */
export type KeyKind = 'api' | 'tok' | 'agent';

/** A fresh random token. Only `hash`, `tokenId` and `preview` may be stored; `token` is shown once. */
export interface GeneratedToken {
  token: string;
  /** Public part by which the row is found: 8 base62 characters. */
  tokenId: string;
  /** SHA-256 of the whole token. */
  hash: Buffer;
  /** The public part with the secret masked, e.g. `nexus_api_ab12CD34_...`. */
  preview: string;
}

export interface GeneratedKey {
  key: string;
  kind: KeyKind;
  keyId: string;
  hash: Buffer;
  preview: string;
}

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const BODY = /^([a-z][a-z0-9]*(?:_[a-z0-9]+)*)_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}_([0-9A-Za-z]{6})$/;
const PREFIX = /^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$/;
const KIND_PREFIX = /^nexus_(api|tok|agent)$/;
const LONGEST = 128;

function base62(value: bigint, width: number): string {
  let text = '';
  for (let rest = value; rest > 0n; rest /= 62n) text = DIGITS[Number(rest % 62n)] + text;
  return text.padStart(width, '0');
}

function checksum(text: string): string {
  return base62(BigInt(crc32(text)), 6);
}

/** `<prefix>_<8 id>_<43 characters: 256 random bits>_<6 CRC-32>`; the checksum covers all before it. */
function mint(prefix: string): GeneratedToken {
  const tokenId = base62(BigInt(randomInt(62 ** 8)), 8);
  const secret = base62(BigInt(`0x${randomBytes(32).toString('hex')}`), 43);
  const body = `${prefix}_${tokenId}_${secret}`;
  const token = `${body}_${checksum(body)}`;
  return { token, tokenId, hash: hashKey(token), preview: `${prefix}_${tokenId}_...` };
}

function read(text: string): { prefix: string; tokenId: string } | null {
  if (text.length > LONGEST) return null;
  const match = BODY.exec(text);
  if (!match || checksum(text.slice(0, -7)) !== match[3]) return null;
  return { prefix: match[1], tokenId: match[2] };
}

/** Makes an API key, service token or agent key of 256 random bits. */
export function generateKey(kind: KeyKind): GeneratedKey {
  const { token, tokenId, hash, preview } = mint(`nexus_${kind}`);
  return { key: token, kind, keyId: tokenId, hash, preview };
}

/** Checks shape and checksum of a key, so that a typing error or a random guess costs no query. */
export function parseKey(text: string): { kind: KeyKind; keyId: string } | null {
  const parts = read(text);
  const kind = parts && KIND_PREFIX.exec(parts.prefix)?.[1];
  return kind ? { kind: kind as KeyKind, keyId: parts.tokenId } : null;
}

/**
 * Makes a token that is used once or rotated: join tokens, refresh tokens, tickets.
 * @param prefix words before the id, e.g. `nexus_join`; not one of a {@link KeyKind}, so that it never passes for a key
 */
export function generateOneTimeToken(prefix: string): GeneratedToken {
  if (!PREFIX.test(prefix) || KIND_PREFIX.test(prefix) || prefix.length > 64) {
    throw new TypeError(`Not a prefix of a one-time token: ${prefix}`);
  }
  return mint(prefix);
}

/** Like {@link parseKey} for a token made by {@link generateOneTimeToken} with the same prefix. */
export function parseOneTimeToken(text: string, prefix: string): { tokenId: string } | null {
  const parts = read(text);
  return parts?.prefix === prefix ? { tokenId: parts.tokenId } : null;
}

/** SHA-256 of the whole text: what is stored of a key or token (256 random bits need no slow hash). */
export function hashKey(text: string): Buffer {
  return hash('sha256', text, 'buffer');
}

/** The same as text: a name to find something by, at a third of the cost. */
export function hashName(text: string): string {
  return hash('sha256', text, 'base64');
}

/** Compares in time that does not depend on the content; different lengths are unequal. */
export function safeEqual(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
