import {
  Check,
  Column,
  CreateDateColumn,
  Entity,
  Index,
  PrimaryColumn,
  UpdateDateColumn,
  VersionColumn,
} from 'typeorm';

/** A saved subscription to events, delivered by webhook or read by stream. */
@Entity('event_subscriptions')
@Index('event_subscriptions_owner', ['ownerId', 'createdAt', 'id'])
@Index('event_subscriptions_streams', { synchronize: false })
@Check('event_subscriptions_check', 'NOT (enabled AND (disabled_at IS NOT NULL))')
@Check('event_subscriptions_delivery_method_check', "delivery_method IN ('webhook', 'stream')")
@Check('event_subscriptions_event_patterns_check', 'cardinality(event_patterns) > 0')
export class EventSubscription {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  ownerId!: string;

  @Column('text')
  name!: string;

  @Column('text', { array: true })
  eventPatterns!: string[];

  @Column('jsonb', { nullable: true })
  filters!: Record<string, unknown> | null;

  @Column('text', { array: true })
  readerScopes!: string[];

  @Column('text')
  deliveryMethod!: 'webhook' | 'stream';

  @Column('boolean')
  enabled!: boolean;

  @VersionColumn({ type: 'integer', default: 1 })
  version!: number;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz', precision: 3 })
  updatedAt!: Date;

  @Column('text', { nullable: true })
  ownerCredential!: string | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  disabledAt!: Date | null;
}
