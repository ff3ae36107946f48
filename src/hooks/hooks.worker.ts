import { Injectable } from '@nestjs/common';
import { HandleJob } from '../platform/jobs/index.js';
import { HookCalls } from './hook-calls.service.js';
import { PurgeHookReceipts } from './hooks.jobs.js';

@Injectable()
export class HooksWorker {
  constructor(private readonly calls: HookCalls) {}

  @HandleJob(PurgeHookReceipts)
  purge(): Promise<void> {
    return this.calls.purge();
  }
}
