import { Module } from '@nestjs/common';
import { AuditController } from './audit.controller.js';
import { AuditPartitions } from './audit-partitions.js';
import { AuditService } from './audit.service.js';
import { AuditTrail } from './audit-trail.js';
import { AuditWorker } from './audit.worker.js';

@Module({
  controllers: [AuditController],
  providers: [AuditPartitions, AuditService, AuditTrail, AuditWorker],
  exports: [AuditTrail],
})
export class AuditModule {}
