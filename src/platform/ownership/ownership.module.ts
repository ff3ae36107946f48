import { Global, Module } from '@nestjs/common';
import { JobsModule } from '../jobs/index.js';
import { OwnerRights } from './owner-rights.js';
import { CheckOwnerRights } from './ownership.jobs.js';

@Global()
@Module({
  imports: [JobsModule.forFeature([CheckOwnerRights])],
  providers: [OwnerRights],
  exports: [OwnerRights],
})
export class OwnershipModule {}
