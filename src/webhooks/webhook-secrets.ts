import { Injectable } from '@nestjs/common';
import { EncryptedColumns, SecretBox } from '../platform/crypto/index.js';
import type { Webhook } from './webhook.entity.js';

/** The secrets that sign deliveries: one per webhook, or two while one replaces the other. They are encrypted at rest. */
@Injectable()
@EncryptedColumns({
  table: 'webhooks',
  key: ['id'],
  columns: ['secret_box', 'previous_secret_box'],
  context: ({ id }) => contextOf(id),
})
export class WebhookSecrets {
  constructor(private readonly box: SecretBox) {}

  seal(webhookId: string, secret: string): string {
    return this.box.encrypt(secret, contextOf(webhookId));
  }

  /** Decrypts the secrets, the current one first. */
  open(
    webhookId: string,
    { secretBox, previousSecretBox }: Pick<Webhook, 'secretBox' | 'previousSecretBox'>,
  ): string[] {
    return [secretBox, previousSecretBox]
      .filter((box) => box !== null)
      .map((box) => this.box.decrypt(box, contextOf(webhookId)));
  }
}

function contextOf(webhookId: string): string {
  return `webhooks/${webhookId}/secret`;
}
