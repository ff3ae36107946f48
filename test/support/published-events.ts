import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { Client } from 'pg';
import { domains } from '../../src/domains.js';
import { EventCatalogue } from '../../src/platform/events/index.js';

/** Checks every event that the server published during a test against its schema in the catalogue. */
export async function checkPublishedEvents(databaseUrl: string): Promise<void> {
  const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
  addFormats.default(ajv);
  // Stricter than what receivers are promised: a field that the schema does not know was forgotten in it.
  const checks = new Map(
    EventCatalogue.of(domains).events.map(({ type, schema }) => [
      type,
      ajv.compile({ unevaluatedProperties: false, ...schema }),
    ]),
  );
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ type: string; data: unknown }>(
      // Of callers' events the catalogue says nothing, also where they share a name with one of the server's.
      'SELECT type, data FROM events WHERE source IS NULL',
    );
    for (const { type, data } of rows) {
      const check = checks.get(type);
      if (check && !check(data)) {
        throw new Error(`${type} is not as declared: ${ajv.errorsText(check.errors)}\n${JSON.stringify(data)}`);
      }
    }
  } finally {
    await client.end();
  }
}
