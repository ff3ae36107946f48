import { Global, Module } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { MasterKeys, masterKeysOf } from './master-key.js';
import { PasswordHasher } from './password.js';
import { SecretBox } from './secret-box.js';

/** Keys, encryption at rest and password hashing for every domain. */
@Global()
@Module({
  providers: [
    {
      provide: MasterKeys,
      inject: [Settings],
      useFactory: (settings: Settings) => new MasterKeys(masterKeysOf(settings)),
    },
    { provide: SecretBox, inject: [MasterKeys], useFactory: (keys: MasterKeys) => new SecretBox(keys.list) },
    { provide: PasswordHasher, useFactory: () => new PasswordHasher() },
  ],
  exports: [MasterKeys, SecretBox, PasswordHasher],
})
export class CryptoModule {}
