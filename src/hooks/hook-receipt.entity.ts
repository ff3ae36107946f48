import { Column, Entity, ForeignKey, Index, PrimaryColumn } from 'typeorm';
import { Hook } from './hook.entity.js';

/** A message that a hook has received, so that the same one counts once. */
@Entity('hook_receipts')
@Index('hook_receipts_received', ['receivedAt'])
export class HookReceipt {
  @ForeignKey(() => Hook, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  hookId!: string;

  @PrimaryColumn('text')
  messageId!: string;

  @Column('uuid', { nullable: true })
  eventId!: string | null;

  @Column('text', { nullable: true })
  eventType!: string | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  receivedAt!: Date;
}
