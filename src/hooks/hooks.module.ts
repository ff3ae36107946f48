import { Module } from '@nestjs/common';
import { HookCalls } from './hook-calls.service.js';
import { HookCallsController } from './hook-calls.controller.js';
import { HookRefusals } from './hook-refusals.js';
import { HookRights } from './hook-rights.js';
import { HookSecrets } from './hook-secrets.js';
import { HooksController } from './hooks.controller.js';
import { HooksService } from './hooks.service.js';
import { HooksWorker } from './hooks.worker.js';

/** Lets other programs tell Nexus what happens: signed calls become events. Who acts on them subscribes to the events. */
@Module({
  controllers: [HooksController, HookCallsController],
  providers: [HookCalls, HookRefusals, HookRights, HookSecrets, HooksService, HooksWorker],
})
export class HooksModule {}
