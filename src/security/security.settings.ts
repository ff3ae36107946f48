import { IsOptional, IsString, MaxLength, MinLength } from 'class-validator';
import { days, int, list, RateLimitSetting, Setting } from '../platform/config/index.js';

export class SecuritySettings {
  static readonly title = 'Security';

  @Setting(
    'NEXUS_ADMIN_PASSWORD',
    'Password of the first administrator `admin` instead of a random one, 15 characters and not easy to guess (only used while there is no user)',
    IsOptional(),
    MinLength(8),
    MaxLength(128),
  )
  adminPassword?: string;

  @Setting('NEXUS_ACCESS_TOKEN_TTL', 'Seconds an access token of a login lives', int(60, 86_400)) accessTokenTtl = 3600;

  @Setting(
    'NEXUS_JWT_KEY_FILES',
    'PEM files of Ed25519 or RSA private keys that sign access tokens instead of secrets, comma-separated: the first signs, all verify; public ones under /auth/jwks',
    list(IsString({ each: true })),
  )
  jwtKeyFiles: string[] = [];

  @Setting(
    'NEXUS_JWT_SECRET',
    'Secrets of access tokens, each of at least 32 bytes, comma-separated: the first signs, all verify. Without it they are derived from the master keys; replicas must share either',
    list(MinLength(32, { each: true, message: 'every secret must have at least 32 bytes' })),
  )
  jwtSecret: string[] = [];

  @Setting('NEXUS_AUDIT_RETENTION_DAYS', 'Days that audit entries are kept, at least: whole months are dropped', days())
  auditRetentionDays = 365;

  @RateLimitSetting('auth', 'Limit of logins, per address', { alone: true }) rateLimit = '10/600';
}
