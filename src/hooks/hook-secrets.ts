import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { EncryptedColumns, newSigningSecret, SecretBox } from '../platform/crypto/index.js';

interface StoredSecrets {
  secret_box: string;
  previous_secret_box: string | null;
}

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

  open(hookId: string, { secret_box, previous_secret_box }: StoredSecrets): string[] {
    return [secret_box, previous_secret_box]
      .filter((box) => box !== null)
      .map((box) => this.box.decrypt(box, contextOf(hookId)));
  }

  /** One that nobody has, for calls to hooks that do not exist: they take the same work. */
  openNobodys(): string[] {
    return this.open(this.nobody, { secret_box: this.nobodysBox, previous_secret_box: null });
  }
}

function contextOf(hookId: string): string {
  return `hooks/${hookId}/secret`;
}
