import { randomBytes } from 'node:crypto';
import { Database } from '../../src/platform/database/index.js';
import { Users } from '../../src/security/accounts/users.js';
import { Credentials } from '../../src/security/keys/credentials.js';
import type { TestApp } from './app.js';

export interface TestActor {
  /** API key that acts for the user. */
  key: string;
  /** UUID of the user. */
  userId: string;
  /** UUID of the key. */
  keyId: string;
  username: string;
}

/** A user of one role (default admin) with an API key, by default for everything the role may do. */
export async function actor(
  app: TestApp,
  options: { role?: string; scopes?: string[]; expiresInDays?: number | null } = {},
): Promise<TestActor> {
  const { role = 'admin', scopes = ['*'], expiresInDays = null } = options;
  return app.get(Database).transaction(async (tx) => {
    const username = `${role}-${randomBytes(4).toString('hex')}`;
    const user = await app.get(Users).create(tx, { username, roles: [role] });
    const { key, credential } = await app
      .get(Credentials)
      .create(tx, { kind: 'api', name: 'test', ownerUserId: user.id, scopes, expiresInDays });
    return { key, userId: user.id, keyId: credential.id, username };
  });
}
