type Json = Record<string, unknown>;
interface PathOperation extends Json {
  parameters?: { name: string; in: string }[];
}

/**
 * Sorts the scanned paths and removes the marks of optional parts. Routes whose paths differ only in the names of their parameters
 * become one path, with the parameter names of the first.
 */
export function documentPaths(scanned: Record<string, Json>): Record<string, Json> {
  const paths = new Map<string, { path: string; item: Json }>();
  const sorted = Object.entries(scanned)
    .map(([path, item]): [string, Json] => [path.replace('{/}', '').replace(/(.)\/$/, '$1'), item])
    .sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [path, item] of sorted) {
    const template = path.replace(PARAMETER, '{}');
    const first = paths.get(template);
    if (first) Object.assign(first.item, renamed(item, namesOf(path), namesOf(first.path)));
    else paths.set(template, { path, item });
  }
  return Object.fromEntries([...paths.values()].map(({ path, item }) => [path, item]));
}

const PARAMETER = /\{([^}]+)\}/g;

function namesOf(path: string): string[] {
  return [...path.matchAll(PARAMETER)].map(([, name]) => name);
}

function renamed(item: Json, from: string[], to: string[]): Json {
  for (const { parameters = [] } of Object.values(item) as PathOperation[]) {
    for (const parameter of parameters.filter((one) => one.in === 'path')) {
      parameter.name = to[from.indexOf(parameter.name)];
    }
  }
  return item;
}
