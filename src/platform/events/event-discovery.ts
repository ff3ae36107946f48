import { Injectable, type OnModuleInit } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import { discoverMethods, JobRegistry } from '../jobs/index.js';
import { DeadLetterOffice } from './dead-letter-office.js';
import { type EventHandler, EventHandlers } from './event-handlers.js';
import { ON_EVENT, type OnEventMeta } from './on-event.js';

/** Finds the methods marked with `@OnEvent`, `@OnEvents` and `@OnEveryEvent`, and makes each the handler of a job of its own. */
@Injectable()
export class EventDiscovery implements OnModuleInit {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly registry: JobRegistry,
    private readonly handlers: EventHandlers,
    private readonly deadLetters: DeadLetterOffice,
  ) {}

  onModuleInit(): void {
    for (const { meta, call } of discoverMethods<OnEventMeta>(this.discovery, this.scanner, ON_EVENT)) {
      const { handler: name, queue, attempts = 10, type, many } = meta;
      const job = { name: `event.${name}`, queue, attempts, backoffMs: 1000 };
      const handler: EventHandler = { name, type, many, job };
      const run = call as (payload: unknown) => Promise<unknown>;
      this.registry.register(handler.job, this.deadLetters.guard(handler, run));
      this.handlers.add(handler);
    }
  }
}
