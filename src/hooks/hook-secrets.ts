import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { EncryptedColumns, newSigningSecret, SecretBox } from '../platform/crypto/index.js';
import type { Hook } from './hook.entity.js';

type StoredSecrets = Pick<Hook, 'id' | 'secretBox' | 'previousSecretBox' | 'previousSecretUntil'>;

/** The secrets that callers sign with: one per hook, encrypted at rest, two while one replaces the other. */
@Injectable()
@EncryptedColumns({
  table: 'hooks',
  key: ['id'],
  columns: ['secret_box', 'previous_secret_box'],
  context: ({ id }) => contextOf(id),
})
export class HookSecrets {
  private readonly nobody = randomUUID();
  private readonly nobodysBox: string;

  constructor(private readonly box: SecretBox) {
    this.nobodysBox = this.seal(this.nobody, newSigningSecret());
  }

  seal(hookId: string, secret: string): string {
    return this.box.encrypt(secret, contextOf(hookId));
  }

  /** Those that are valid now, the newest first. */
  open({ id, secretBox, previousSecretBox, previousSecretUntil }: StoredSecrets): string[] {
    const overlaps = previousSecretUntil !== null && previousSecretUntil > new Date();
    return [secretBox, overlaps ? previousSecretBox : null]
      .filter((box) => box !== null)
      .map((box) => this.box.decrypt(box, contextOf(id)));
  }

  /** One that nobody has, for calls to hooks that do not exist: they take the same work. */
  openNobodys(): string[] {
    const nobody = { id: this.nobody, secretBox: this.nobodysBox, previousSecretBox: null, previousSecretUntil: null };
    return this.open(nobody);
  }
}

function contextOf(hookId: string): string {
  return `hooks/${hookId}/secret`;
}
