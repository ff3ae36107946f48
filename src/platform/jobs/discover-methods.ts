import type { DiscoveryService, MetadataScanner } from '@nestjs/core';

/** Finds every provider method that carries the metadata `key`. */
export function discoverMethods<Meta>(
  discovery: DiscoveryService,
  scanner: MetadataScanner,
  key: symbol,
): { meta: Meta; call: (...args: unknown[]) => unknown }[] {
  const found: { meta: Meta; call: (...args: unknown[]) => unknown }[] = [];
  for (const { instance } of discovery.getProviders()) {
    if (!instance || typeof instance !== 'object') continue;
    const prototype = Object.getPrototypeOf(instance) as Record<string, unknown> | null;
    if (!prototype) continue;
    for (const name of scanner.getAllMethodNames(prototype)) {
      const method = prototype[name];
      if (typeof method !== 'function') continue;
      const metas = Reflect.getMetadata(key, method) as Meta[] | undefined;
      for (const meta of metas ?? []) {
        found.push({ meta, call: (...args) => (method as (...a: unknown[]) => unknown).apply(instance, args) });
      }
    }
  }
  return found;
}

/** Adds one entry to the list of metadata under `key` of a method. */
export function appendMetadata(key: symbol, meta: unknown): MethodDecorator {
  return (_target, _name, descriptor) => {
    const method = descriptor.value as object;
    const existing = (Reflect.getMetadata(key, method) as unknown[] | undefined) ?? [];
    Reflect.defineMetadata(key, [...existing, meta], method);
  };
}
