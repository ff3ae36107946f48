import { Injectable } from '@nestjs/common';
import { HandleJob } from '../platform/jobs/index.js';
import { KeepAuditPartitions, SealAuditMinutes } from './audit.jobs.js';
import { AuditPartitions } from './audit-partitions.js';
import { AuditTrail } from './audit-trail.js';

@Injectable()
export class AuditWorker {
  constructor(
    private readonly trail: AuditTrail,
    private readonly partitions: AuditPartitions,
  ) {}

  @HandleJob(SealAuditMinutes)
  sealMinutes(): Promise<void> {
    return this.trail.sealMinutes();
  }

  @HandleJob(KeepAuditPartitions)
  keepPartitions(): Promise<void> {
    return this.partitions.enforceRetention();
  }
}
