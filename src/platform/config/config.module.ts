import { type DynamicModule, Module } from '@nestjs/common';
import { LoadedSettings } from './load-settings.js';

/** Every class of settings, to be injected by its class wherever it is needed. */
@Module({})
export class ConfigModule {
  static with(settings: LoadedSettings): DynamicModule {
    const classes = settings.classes();
    return {
      module: ConfigModule,
      global: true,
      providers: [
        { provide: LoadedSettings, useValue: settings },
        ...classes.map((type) => ({ provide: type, useValue: settings.get(type) })),
      ],
      exports: [LoadedSettings, ...classes],
    };
  }
}
