import { Global, Module } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { loadMasterKeys, MasterKeys } from './master-key.js';
import { PasswordHasher } from './password.js';
import { SecretBox } from './secret-box.js';

/** Keys, encryption at rest and password hashing for every domain. */
@Global()
@Module({
  providers: [
    {
      provide: MasterKeys,
      inject: [Settings],
      // Processes of one role share their keys with others, so only a process that does everything may make its own.
      useFactory: ({ home, masterKeys, role }: Settings) =>
        new MasterKeys(loadMasterKeys({ home, keysSetting: masterKeys, allowGenerate: role === 'all' })),
    },
    { provide: SecretBox, inject: [MasterKeys], useFactory: (keys: MasterKeys) => new SecretBox(keys.list) },
    { provide: PasswordHasher, useFactory: () => new PasswordHasher() },
  ],
  exports: [MasterKeys, SecretBox, PasswordHasher],
})
export class CryptoModule {}
