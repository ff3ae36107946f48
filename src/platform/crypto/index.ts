export { CryptoModule } from './crypto.module.js';
export { EncryptedColumns, type EncryptedTable } from './encrypted-columns.js';
export {
  generateKey,
  generateOneTimeToken,
  hashKey,
  hashName,
  parseKey,
  parseOneTimeToken,
  safeEqual,
  type GeneratedKey,
  type GeneratedToken,
  type KeyKind,
} from './key-format.js';
export { masterKeysOf, MasterKeys, type MasterKey } from './master-key.js';
export { checkPasswordStrength, type PasswordContext } from './password-strength.js';
export { PasswordHasher } from './password.js';
export { SecretBox, SecretBoxError } from './secret-box.js';
export { assertRotatable, IsSigningSecret, newSigningSecret, standardSignatures } from './signing-secret.js';
