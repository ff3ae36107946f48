import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Which of the events of the same time a group has seen: what is judged again after a crash must not pass over the others. */
export class OrderEventsOfOneTime1763780000000 implements MigrationInterface {
  readonly name = 'OrderEventsOfOneTime1763780000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(
      `ALTER TABLE alert_states ADD COLUMN last_received_at timestamptz(3), ADD COLUMN last_event_id uuid`,
    );
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE alert_states DROP COLUMN last_received_at, DROP COLUMN last_event_id`);
  }
}
