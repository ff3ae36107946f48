type Schema = Record<string, unknown>;

/** A schema refers to itself, so that no bound of its size can be given. */
export class RecursiveSchemaError extends Error {}

/**
 * How many keywords and values a validator may look at for one value: everything in the schema, and for each `$ref` everything in
 * what it names. A short schema can be very large that way: each of 32 definitions that names the next one twice doubles it.
 * @throws RecursiveSchemaError
 */
export function expandedSize(schema: Schema): number {
  const sizes = new Map<object, number>();
  const open = new Set<object>();
  const sizeOf = (value: unknown): number => {
    if (typeof value !== 'object' || value === null) return 1;
    const known = sizes.get(value);
    if (known !== undefined) return known;
    if (open.has(value)) throw new RecursiveSchemaError();
    open.add(value);
    let size = 1;
    for (const [key, inner] of Object.entries(value)) {
      size += sizeOf(inner);
      if (key === '$ref' && typeof inner === 'string') size += sizeOf(resolvePointer(schema, inner));
    }
    open.delete(value);
    sizes.set(value, size);
    return size;
  };
  return sizeOf(schema);
}

/** Values of a JSON document, itself included. */
export function countValues(value: unknown): number {
  let count = 0;
  const open = [value];
  while (open.length > 0) {
    const next = open.pop();
    count++;
    if (typeof next === 'object' && next !== null) for (const inner of Object.values(next)) open.push(inner);
  }
  return count;
}

/** A text that two JSON values share exactly when they are equal, whatever the order of their keys. */
export function canonicalText(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1)))
      : inner,
  );
}

/** What a JSON pointer in a fragment names (RFC 6901); undefined when there is nothing. */
function resolvePointer(schema: Schema, reference: string): unknown {
  let value: unknown = schema;
  for (const part of reference.split('/').slice(1)) {
    if (typeof value !== 'object' || value === null) return undefined;
    let name = part;
    try {
      name = decodeURIComponent(part);
    } catch {
      // Not encoded at all.
    }
    value = (value as Schema)[name.replaceAll('~1', '/').replaceAll('~0', '~')];
  }
  return value;
}
