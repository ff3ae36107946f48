import { Injectable } from '@nestjs/common';
import { HandleJob, type JobContext } from '../platform/jobs/index.js';
import { Rollups } from './rollups.js';
import { KeepTelemetryPartitions, RollUpTelemetry } from './telemetry.jobs.js';
import { TelemetryRetention } from './telemetry-retention.js';

@Injectable()
export class TelemetryWorker {
  constructor(
    private readonly retention: TelemetryRetention,
    private readonly rollups: Rollups,
  ) {}

  @HandleJob(KeepTelemetryPartitions)
  keepPartitions(): Promise<void> {
    return this.retention.run();
  }

  @HandleJob(RollUpTelemetry)
  rollUp(_payload: Record<string, never>, context: JobContext): Promise<void> {
    return this.rollups.run(Date.now(), context.signal);
  }
}
