import { Injectable } from '@nestjs/common';
import { HandleJob } from '../platform/jobs/index.js';
import { SealAuditMinutes } from './audit.jobs.js';
import { AuditTrail } from './audit-trail.js';

@Injectable()
export class AuditWorker {
  constructor(private readonly trail: AuditTrail) {}

  @HandleJob(SealAuditMinutes)
  sealMinutes(): Promise<void> {
    return this.trail.sealMinutes();
  }
}
