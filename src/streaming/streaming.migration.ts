import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Tickets of streams (row STR-12): the hash, and the encrypted credential that the ticket stands for, a minute long. */
export class CreateStreamTickets1763702000000 implements MigrationInterface {
  readonly name = 'CreateStreamTickets1763702000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE stream_tickets (
        hash bytea PRIMARY KEY,
        credential text NOT NULL,
        channels text[],
        expires_at timestamptz NOT NULL
      )`);
    await db.query(`CREATE INDEX stream_tickets_expires_at ON stream_tickets (expires_at)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE stream_tickets`);
  }
}
