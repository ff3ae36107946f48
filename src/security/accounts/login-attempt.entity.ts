import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/** Failed logins for an account from one network. */
@Entity('login_attempts')
@Index('login_attempts_last', ['lastAt'])
export class LoginAttempt {
  @PrimaryColumn('bytea')
  account!: Buffer;

  @PrimaryColumn('text')
  network!: string;

  @Column('integer')
  failures!: number;

  @Column('timestamptz', { default: () => 'now()' })
  lastAt!: Date;
}
