import { Module } from '@nestjs/common';
import { DatabaseModule } from '../platform/database/index.js';
import { JobsModule } from '../platform/jobs/index.js';
import { AuditEntry } from './audit-entry.entity.js';
import { AuditMinute } from './audit-minute.entity.js';
import { AuditPartitions } from './audit-partitions.js';
import { AuditTrail } from './audit-trail.js';
import { AuditController } from './audit.controller.js';
import { SealAuditMinutes } from './audit.jobs.js';
import { AuditService } from './audit.service.js';
import { AuditWorker } from './audit.worker.js';

@Module({
  imports: [JobsModule.forFeature([SealAuditMinutes]), DatabaseModule.forFeature([AuditEntry, AuditMinute])],
  controllers: [AuditController],
  providers: [AuditPartitions, AuditService, AuditTrail, AuditWorker],
  exports: [AuditTrail],
})
export class AuditModule {}
