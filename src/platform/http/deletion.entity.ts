import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/** A resource that was deleted, so that deleting it again is not an error. */
@Entity('deletions')
@Index('deletions_deleted_at', ['deletedAt'])
export class Deletion {
  @PrimaryColumn('text')
  id!: string;

  @Column('text', { nullable: true })
  owner!: string | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  deletedAt!: Date;
}
