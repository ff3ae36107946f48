import { Module } from '@nestjs/common';
import { DatabaseModule } from '../platform/database/index.js';
import { EventsModule } from '../platform/events/index.js';
import { HttpModule } from '../platform/http/index.js';
import { RetentionModule } from '../platform/retention/index.js';
import { HookCallsController } from './hook-calls.controller.js';
import { HookCalls } from './hook-calls.service.js';
import { HookReceipt } from './hook-receipt.entity.js';
import { HookRefusals } from './hook-refusals.js';
import { HookRights } from './hook-rights.js';
import { HookSecrets } from './hook-secrets.js';
import { Hook } from './hook.entity.js';
import { HooksController } from './hooks.controller.js';
import { HooksService } from './hooks.service.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    hook: 'inbound hook';
  }
}

/** Lets other programs tell Nexus what happens: signed calls become events. Who acts on them subscribes to the events. */
@Module({
  imports: [
    EventsModule.forFeature({ families: [{ types: ['hook.*'], channel: 'hooks.events', scope: 'webhook:read' }] }),
    HttpModule.forFeature({ tags: { hooks: 'Let other programs tell what happens, by signed calls' } }),
    DatabaseModule.forFeature([HookReceipt, Hook]),
    RetentionModule.forFeature([{ entity: HookReceipt, column: 'receivedAt', days: 7 }]),
  ],
  controllers: [HooksController, HookCallsController],
  providers: [HookCalls, HookRefusals, HookRights, HookSecrets, HooksService],
})
export class HooksModule {}
