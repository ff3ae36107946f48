import 'reflect-metadata';
import { Controller, Get, Module, type Type } from '@nestjs/common';
import { DiscoveryModule, NestFactory } from '@nestjs/core';
import { describe, expect, it } from 'vitest';
import { ConfigModule } from '../../src/platform/config/index.js';
import { Allow, Public, RateLimit } from '../../src/platform/http/index.js';
import { RouteCheck } from '../../src/platform/http/route-check.js';
import { readSettings } from '../../src/settings.js';

@Controller('declared')
class DeclaredController {
  @Get('a') @Allow('telemetry:read') a(): string {
    return 'a';
  }
  @Get('b') @Public() b(): string {
    return 'b';
  }
}

@Allow()
@Controller('whole')
class WholeController {
  @Get() a(): string {
    return 'a';
  }
}

@Controller('forgotten')
class ForgottenController {
  @Get('a') @Allow() a(): string {
    return 'a';
  }
  @Get('b') b(): string {
    return 'b';
  }
}

@RateLimit('telemetri')
@Controller('misspelt')
class MisspeltController {
  @Get('a') @Allow() a(): string {
    return 'a';
  }
}

async function boot(...controllers: Type[]): Promise<void> {
  @Module({ imports: [DiscoveryModule, ConfigModule.with(readSettings({}))], controllers, providers: [RouteCheck] })
  class Probe {}
  const app = await NestFactory.create(Probe, { logger: false, abortOnError: false });
  try {
    await app.init();
  } finally {
    await app.close();
  }
}

describe('starting', () => {
  it('works when every route says who may call it', async () => {
    await expect(boot(DeclaredController, WholeController)).resolves.toBeUndefined();
  });

  it('stops at a route that does not', async () => {
    await expect(boot(DeclaredController, ForgottenController)).rejects.toThrow('ForgottenController.b');
  });

  it('stops at a route whose rate limit nobody has declared', async () => {
    await expect(boot(DeclaredController, MisspeltController)).rejects.toThrow('MisspeltController.a');
  });
});
