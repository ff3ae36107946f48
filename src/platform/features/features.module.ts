import { type DynamicModule, Module, type Type } from '@nestjs/common';
import type { Feature } from './feature.js';

/** What the modules of this server declare. */
export class Features {
  constructor(private readonly modules: readonly (Type | DynamicModule)[]) {}

  of<T>(feature: Feature<T>): T[] {
    return feature.declaredBy(this.modules);
  }
}

@Module({})
export class FeaturesModule {
  static with(modules: readonly (Type | DynamicModule)[]): DynamicModule {
    return {
      module: FeaturesModule,
      global: true,
      providers: [{ provide: Features, useValue: new Features(modules) }],
      exports: [Features],
    };
  }
}
