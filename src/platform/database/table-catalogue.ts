import type { ClientBase } from 'pg';

export interface Table {
  name: string;
  /** Those that hold data of their own: generated ones are left out. */
  columns: string[];
}

interface Partition {
  name: string;
  parent: string;
  /** `FOR VALUES …` or `DEFAULT`. */
  bound: string;
  /** Statements that make the triggers it does not have from its parent. */
  triggers: string[];
}

/** The tables of the current schema, partitions left out, in an order in which every table follows those it refers to. */
export async function tablesOf(client: ClientBase): Promise<Table[]> {
  const { rows } = await client.query<Table & { refers_to: string[] }>(
    `SELECT relname::text AS name,
       ARRAY(SELECT attname::text FROM pg_attribute
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum) AS columns,
       ARRAY(SELECT DISTINCT f.relname::text FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
             WHERE k.conrelid = c.oid AND k.contype = 'f' AND f.oid <> c.oid) AS refers_to
     FROM pg_class c
     WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
     ORDER BY relname`,
  );
  const ordered = new Map<string, Table>();
  while (ordered.size < rows.length) {
    const next = rows.filter(({ name, refers_to }) => !ordered.has(name) && refers_to.every((t) => ordered.has(t)));
    if (next.length === 0) throw new Error('Tables refer to each other in a circle');
    for (const { name, columns } of next) ordered.set(name, { name, columns });
  }
  return [...ordered.values()];
}

export async function partitionsOf(client: ClientBase): Promise<Partition[]> {
  const { rows } = await client.query<Partition>(
    `SELECT c.relname::text AS name, p.relname::text AS parent, pg_get_expr(c.relpartbound, c.oid) AS bound,
       ARRAY(SELECT pg_get_triggerdef(t.oid, true) FROM pg_trigger t
             WHERE t.tgrelid = c.oid AND NOT tgisinternal AND tgparentid = 0) AS triggers
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relispartition ORDER BY c.relname`,
  );
  return rows;
}
