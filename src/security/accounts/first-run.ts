import { Injectable } from '@nestjs/common';
import { SecuritySettings } from '../security.settings.js';
import { checkPasswordStrength, generateOneTimeToken, PasswordHasher } from '../../platform/crypto/index.js';
import { Database, StartError, takeLock } from '../../platform/database/index.js';
import { Credentials } from '../keys/credentials.js';
import { User } from './user.entity.js';
import { Users } from './users.js';

export interface FirstAdmin {
  username: string;
  /** Null when the person chose it with NEXUS_ADMIN_PASSWORD. */
  password: string | null;
  apiKey: string;
}

const USERNAME = 'admin';

/** Makes the first administrator; there is no default password. */
@Injectable()
export class FirstRun {
  constructor(
    private readonly db: Database,
    private readonly settings: SecuritySettings,
    private readonly hasher: PasswordHasher,
    private readonly users: Users,
    private readonly credentials: Credentials,
  ) {}

  /**
   * Creates the user `admin` and a first API key when there is no user at all; of replicas that start together one does.
   * @returns the secrets, to be shown this once; null when there are users
   * @throws StartError for a chosen password that is too weak
   */
  async ensureAdmin(): Promise<FirstAdmin | null> {
    if (await this.db.repository(User).exists()) return null;
    const { adminPassword } = this.settings;
    const weakness = adminPassword && checkPasswordStrength(adminPassword, { username: USERNAME });
    if (weakness) throw new StartError(`The password in NEXUS_ADMIN_PASSWORD ${weakness}; choose another one.`);
    const password = adminPassword ?? generatePassword();
    const passwordHash = await this.hasher.hash(password);
    return this.db.transaction(async (tx) => {
      // Of replicas that start together one makes the user.
      await takeLock(tx, 'security.first-run');
      if (await tx.exists(User)) return null;
      const admin = await this.users.create(tx, { username: USERNAME, passwordHash, roles: ['admin'] });
      const { key } = await this.credentials.create(tx, {
        kind: 'api',
        name: 'First start',
        description: 'Made with the first administrator',
        ownerUserId: admin.id,
        scopes: ['*'],
        expiresInDays: null,
      });
      return { username: admin.username, password: adminPassword === undefined ? password : null, apiKey: key };
    });
  }
}

/** 28 characters of base62 in four groups: 166 random bits, still possible to type. */
function generatePassword(): string {
  const secret = generateOneTimeToken('p').token.split('_')[2];
  return (secret.slice(0, 28).match(/.{7}/g) as string[]).join('-');
}
