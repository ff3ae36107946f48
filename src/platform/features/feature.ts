import { type DynamicModule, Module, type Type } from '@nestjs/common';
import { MODULE_METADATA } from '@nestjs/common/constants.js';

/** Stands in a module's imports for what the module declares; there is nothing in it for Nest. */
@Module({})
class Declaration {}

interface Declared extends DynamicModule {
  feature: { kind: unknown; value: unknown };
}

type Import = Type | DynamicModule;

/**
 * A kind of thing that modules declare in their `imports`, through `forFeature` of the platform module that wants to know it.
 * What is declared is read from the decorators alone, so that all of it is known before Nest starts.
 */
export class Feature<T> {
  /** What `forFeature` returns. */
  declare(value: T): DynamicModule {
    const declared: Declared = { module: Declaration, feature: { kind: this, value } };
    return declared;
  }

  /** What these modules, and those that they import, declare, in this order. */
  declaredBy(modules: readonly Import[]): T[] {
    const seen = new Set<Import>();
    const found: T[] = [];
    const visit = (one: Import): void => {
      if (seen.has(one)) return;
      seen.add(one);
      if ('feature' in one) {
        const { feature } = one as Declared;
        if (feature.kind === this) found.push(feature.value as T);
        return;
      }
      const type = 'module' in one ? one.module : one;
      const own = (Reflect.getMetadata(MODULE_METADATA.IMPORTS, type) ?? []) as Import[];
      const added = 'module' in one ? ((one.imports ?? []) as Import[]) : [];
      for (const imported of [...own, ...added]) visit(imported);
    };
    for (const one of modules) visit(one);
    return found;
  }
}
