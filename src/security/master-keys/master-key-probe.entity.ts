import { Column, Entity, PrimaryColumn } from 'typeorm';

/** A sealed value per master key in use: a process that cannot open all of them must not start. */
@Entity('master_key_probe')
export class MasterKeyProbe {
  @Column('text', { nullable: true })
  sealed!: string | null;

  @PrimaryColumn('text')
  keyId!: string;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  encryptingAt!: Date;
}
