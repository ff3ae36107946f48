import { Column, Entity, ForeignKey, PrimaryColumn } from 'typeorm';
import type { DeliveryInfo } from './delivery-info.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';

/** One HTTP request for a delivery. */
@Entity('webhook_attempts')
export class WebhookAttempt {
  @ForeignKey(() => WebhookDelivery, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  deliveryId!: string;

  @PrimaryColumn('integer')
  n!: number;

  @Column({ type: 'timestamptz', precision: 3 })
  at!: Date;

  @Column('integer', { nullable: true })
  statusCode!: number | null;

  @Column('integer', { nullable: true })
  latencyMs!: number | null;

  @Column('text', { nullable: true })
  errorCode!: string | null;

  @Column('text', { nullable: true })
  error!: string | null;

  @Column('text', { nullable: true })
  responseSnippet!: string | null;

  @Column('json', { nullable: true })
  deliveryInfo!: DeliveryInfo | null;
}
