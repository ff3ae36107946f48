import { Injectable } from '@nestjs/common';
import { HandleJob, type JobContext } from '../platform/jobs/index.js';
import { Rollups } from './rollups.js';
import { RollUpTelemetry } from './telemetry.jobs.js';

@Injectable()
export class TelemetryWorker {
  constructor(private readonly rollups: Rollups) {}

  @HandleJob(RollUpTelemetry)
  rollUp(_payload: Record<string, never>, context: JobContext): Promise<void> {
    return this.rollups.run(Date.now(), context.signal);
  }
}
