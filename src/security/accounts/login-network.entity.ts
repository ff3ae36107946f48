import { Column, Entity, ForeignKey, Index, PrimaryColumn } from 'typeorm';
import { User } from './user.entity.js';

/** A network from which a user has logged in before. */
@Entity('login_networks')
@Index('login_networks_last', ['lastAt'])
export class LoginNetwork {
  @ForeignKey(() => User, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  userId!: string;

  @PrimaryColumn('text')
  network!: string;

  @Column('timestamptz', { default: () => 'now()' })
  lastAt!: Date;
}
