import { Injectable, type OnModuleInit } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import { assertHandled, Features } from '../features/index.js';
import { discoverMethods } from './discover-methods.js';
import { HANDLE_JOB } from './handle-job.js';
import { declaredJobs, type JobContext, type JobDefinition } from './job-definition.js';

export type RunJob = (payload: unknown, context: JobContext) => Promise<unknown>;

/** All jobs and their handlers. A missing or a second handler stops the boot, and so does a second job of the same name. */
@Injectable()
export class JobRegistry implements OnModuleInit {
  private readonly handlers = new Map<string, { definition: JobDefinition<unknown>; run: RunJob }>();

  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly features: Features,
  ) {}

  onModuleInit(): void {
    for (const { meta, call } of discoverMethods<JobDefinition<unknown>>(this.discovery, this.scanner, HANDLE_JOB)) {
      this.register(meta, call as RunJob);
    }
  }

  register(definition: JobDefinition<unknown>, run: RunJob): void {
    if (this.handlers.has(definition.name)) throw new Error(`Job ${definition.name} has two handlers`);
    this.handlers.set(definition.name, { definition, run });
  }

  /** @throws Error naming every declared job without a handler */
  assertComplete(): void {
    const names = this.features.of(declaredJobs).flatMap((jobs) => jobs.map(({ name }) => name));
    assertHandled('Job', names, this.handlers);
  }

  get(name: string): { definition: JobDefinition<unknown>; run: RunJob } | undefined {
    return this.handlers.get(name);
  }

  all(): { definition: JobDefinition<unknown> }[] {
    return [...this.handlers.values()];
  }

  queues(): string[] {
    return [...new Set([...this.handlers.values()].map((h) => h.definition.queue))];
  }
}
