import { Injectable } from '@nestjs/common';
import type { JobData } from './job-queue.js';
import { JobQueue } from './job-queue.js';

/** No worker runs this queue: its one job stays. */
const QUEUE = 'store-marker';
/** Not `marker`: that is a key of its own that BullMQ keeps beside the jobs of each queue. */
const ID = 'value';

/** A number kept in the store of the queues, to tell a store that lost its data (or went back to an older copy) from one that did not. */
@Injectable()
export class StoreMarker {
  constructor(private readonly jobs: JobQueue) {}

  /** Null when the store has none. */
  async read(): Promise<number | null> {
    const job = await this.jobs.queue(QUEUE).getJob(ID);
    return job ? ((job.data as JobData).payload as number) : null;
  }

  async create(value: number): Promise<void> {
    const job = await this.jobs.queue(QUEUE).add(ID, { payload: value }, { jobId: ID });
    await job.updateData({ payload: value });
  }

  /** @throws Error when the store has none any more */
  async advance(value: number): Promise<void> {
    const job = await this.jobs.queue(QUEUE).getJob(ID);
    if (!job) throw new Error('The store of the queues has lost its data');
    await job.updateData({ payload: value });
  }
}
