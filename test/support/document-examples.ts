/** A schema, a parameter or a media type of the OpenAPI document. */
export interface Described {
  $ref?: string;
  type?: string | string[];
  properties?: Record<string, Described>;
  items?: Described;
  allOf?: Described[];
  anyOf?: Described[];
  oneOf?: Described[];
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  example?: unknown;
  examples?: unknown;
  schema?: Described;
}

/** What the document shows for it, made up of the examples of its parts where it has none of its own, as the viewers do. */
export function exampleOf(described: Described, schemas: Record<string, Described>): unknown {
  const { $ref, allOf = [], anyOf = [], oneOf = [], enum: values } = described;
  for (const name of ['example', 'const', 'default'] as const) if (name in described) return described[name];
  const { examples } = described;
  if (Array.isArray(examples)) return examples[0];
  if (examples) return (Object.values(examples)[0] as { value: unknown }).value;
  const inner = described.schema ?? (allOf.length === 1 ? allOf[0] : undefined) ?? anyOf[0] ?? oneOf[0];
  if ($ref) return exampleOf(schemas[$ref.split('/').at(-1) as string], schemas);
  if (inner) return exampleOf(inner, schemas);
  if (values) return values[0];
  if (described.items) return [exampleOf(described.items, schemas)];
  if (!described.properties) return undefined;
  return Object.fromEntries(
    Object.entries(described.properties).map(([name, property]) => [name, exampleOf(property, schemas)]),
  );
}
