import { type DynamicModule, Module } from '@nestjs/common';
import { domains } from './domains.js';
import { ConfigModule, type LoadedSettings } from './platform/config/index.js';
import { DatabaseModule } from './platform/database/index.js';
import { FeaturesModule } from './platform/features/index.js';
import { platformModules } from './platform/platform-modules.js';
import { schema } from './schema.js';

@Module({})
export class AppModule {
  static with(settings: LoadedSettings, databaseUrl: string): DynamicModule {
    const modules = [...platformModules, ...domains];
    return {
      module: AppModule,
      imports: [
        ConfigModule.with(settings),
        FeaturesModule.with(modules),
        DatabaseModule.with(databaseUrl, schema),
        ...modules,
      ],
    };
  }
}
