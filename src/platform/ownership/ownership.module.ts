import { Global, Module } from '@nestjs/common';
import { OwnerRights } from './owner-rights.js';

@Global()
@Module({ providers: [OwnerRights], exports: [OwnerRights] })
export class OwnershipModule {}
