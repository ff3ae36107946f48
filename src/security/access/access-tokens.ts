import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { decodeProtectedHeader, errors, type JWK, jwtVerify, SignJWT } from 'jose';
import { Settings } from '../../platform/config/index.js';
import { SecuritySettings } from '../security.settings.js';
import { MasterKeys } from '../../platform/crypto/index.js';
import { publicId, parsePublicId } from '../../platform/ids/index.js';
import { Logger } from '../../platform/observability/index.js';
import { expiredToken, invalidToken } from './presented-credential.js';
import { type SigningKeys, signingKeys } from './signing-keys.js';

const ISSUER = 'nexus';
const AUDIENCE = 'nexus-api';
const TYPE = 'at+jwt';
/** Clocks of callers and replicas may differ by this many seconds. */
export const SKEW_SECONDS = 60;

export interface AccessClaims {
  userId: string;
  sessionId: string;
  /** Unix seconds. */
  issuedAt: number;
  expiresAt: number;
}

/** Makes and checks access tokens: short-lived JWTs of one pinned algorithm. */
@Injectable()
export class AccessTokens {
  private readonly keys: SigningKeys;

  constructor(
    private readonly settings: SecuritySettings,
    { embedded, masterKeys: shared }: Settings,
    masterKeys: MasterKeys,
    logger: Logger,
  ) {
    const { jwtSecret, jwtKeyFiles } = settings;
    if (!embedded && jwtSecret.length + jwtKeyFiles.length === 0 && shared === undefined) {
      logger.warn(
        'Access tokens are signed with a key of this machine; replicas need NEXUS_JWT_SECRET or NEXUS_MASTER_KEYS',
      );
    }
    this.keys = signingKeys(settings, masterKeys);
  }

  /** Public keys that tokens can be checked with elsewhere (RFC 7517); none for HS256. */
  get published(): readonly JWK[] {
    return this.keys.published;
  }

  /** Seconds an access token lives. */
  get lifetime(): number {
    return this.settings.accessTokenTtl;
  }

  /** `roles` and `scopes` are hints for the client; every request looks up what is true now. */
  async issue(userId: string, sessionId: string, roles: string[], scopes: string[]): Promise<string> {
    const { algorithm, current } = this.keys;
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ sid: publicId('sess', sessionId), roles, scopes })
      .setProtectedHeader({ alg: algorithm, typ: TYPE, kid: current.id })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(publicId('user', userId))
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + this.lifetime)
      .sign(current.key);
  }

  /** @throws AppError `unauthenticated` with TOKEN_EXPIRED or TOKEN_INVALID */
  async verify(token: string): Promise<AccessClaims> {
    try {
      const { kid } = decodeProtectedHeader(token);
      const key = typeof kid === 'string' ? this.keys.verifying.get(kid) : undefined;
      if (!key) throw invalidToken();
      const { payload } = await jwtVerify(token, key, {
        algorithms: [this.keys.algorithm],
        typ: TYPE,
        issuer: ISSUER,
        audience: AUDIENCE,
        clockTolerance: SKEW_SECONDS,
        requiredClaims: ['sub', 'sid', 'jti', 'iat', 'exp'],
      });
      const userId = parsePublicId('user', String(payload.sub));
      const sessionId = parsePublicId('sess', String(payload['sid']));
      if (!userId || !sessionId) throw invalidToken();
      return { userId, sessionId, issuedAt: payload.iat as number, expiresAt: payload.exp as number };
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw expiredToken();
      throw invalidToken();
    }
  }
}
