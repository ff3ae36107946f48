import { Check, Column, CreateDateColumn, Entity, ForeignKey, Index, PrimaryGeneratedColumn, Unique } from 'typeorm';
import { Webhook } from './webhook.entity.js';

/** One message to one webhook, sent in one or more attempts. */
@Entity('webhook_deliveries')
@Index('webhook_deliveries_due', ['webhookId', 'nextAttemptAt'], { where: "status = 'pending'" })
@Index('webhook_deliveries_finished', ['finishedAt'], { where: 'finished_at IS NOT NULL' })
@Index('webhook_deliveries_newest', ['webhookId', 'createdAt', 'id'])
@Index('webhook_deliveries_replay', ['replayId', 'status'], { where: 'replay_id IS NOT NULL' })
@Unique(['eventId', 'webhookId'])
@Check('webhook_deliveries_check', "(status = 'pending') = (next_attempt_at IS NOT NULL)")
@Check('webhook_deliveries_check1', "(status = 'pending') = (finished_at IS NULL)")
@Check('webhook_deliveries_status_check', "status IN ('pending', 'delivered', 'failed', 'cancelled')")
export class WebhookDelivery {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @ForeignKey(() => Webhook, { onDelete: 'CASCADE' })
  @Column('uuid')
  webhookId!: string;

  @Column('uuid')
  eventId!: string;

  @Column('text')
  eventType!: string;

  @Column('bytea')
  body!: Buffer;

  @Column('text', { default: 'pending' })
  status!: 'pending' | 'delivered' | 'failed' | 'cancelled';

  @Column('integer', { default: 0 })
  attempts!: number;

  @Column('integer', { default: 0 })
  failures!: number;

  @Column({ type: 'timestamptz', precision: 3, nullable: true, default: () => 'now()' })
  nextAttemptAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  sendingSince!: Date | null;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  finishedAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  expiresAt!: Date | null;

  @Column('uuid', { nullable: true })
  replayId!: string | null;
}
