import { Check, Column, Entity, ForeignKey, Index, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { Webhook } from './webhook.entity.js';

/** An event that waits for, or belongs to, a delivery of several events. */
@Entity('webhook_batch_items')
@Index('webhook_batch_items_delivery', ['deliveryId'])
@Index('webhook_batch_items_event', ['eventId'])
@Index('webhook_batch_items_waiting', ['webhookId', 'seq'], { where: 'delivery_id IS NULL' })
@Check('webhook_batch_items_check', '(delivery_id IS NULL) = (body IS NOT NULL)')
export class WebhookBatchItem {
  @ForeignKey(() => Webhook, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  webhookId!: string;

  @PrimaryColumn('uuid')
  eventId!: string;

  @Column('bigint', { transformer: bigintAsNumber })
  seq!: number;

  @Column('bytea', { nullable: true })
  body!: Buffer | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  expiresAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  addedAt!: Date;

  @ForeignKey(() => WebhookDelivery, { onDelete: 'CASCADE' })
  @Column('uuid', { nullable: true })
  deliveryId!: string | null;
}
