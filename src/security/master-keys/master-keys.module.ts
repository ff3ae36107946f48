import { Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { BackgroundModule } from '../../platform/background/index.js';
import { DatabaseModule } from '../../platform/database/index.js';
import { MasterKeyProbe as StoredProbe } from './master-key-probe.entity.js';
import { MasterKeyProbe } from './master-key-probe.js';
import { Reencryption } from './reencryption.js';
import { ReencryptSecrets } from './reencryption.task.js';
import { ReencryptionsController } from './reencryptions.controller.js';
import { ReencryptionsService } from './reencryptions.service.js';

/** Which master keys are in use, and how values come to be encrypted with the first of them. */
@Module({
  imports: [BackgroundModule.forFeature([ReencryptSecrets]), DatabaseModule.forFeature([StoredProbe]), DiscoveryModule],
  controllers: [ReencryptionsController],
  providers: [MasterKeyProbe, Reencryption, ReencryptionsService],
})
export class MasterKeysModule {}
