import { type DynamicModule, Global, Module } from '@nestjs/common';
import type { ObjectLiteral } from 'typeorm';
import { JobsModule } from '../jobs/index.js';
import { type RetentionRule, retentionRules } from './retention-rule.js';
import { EnforceRetention, Retention } from './retention.js';

/** One hourly job that deletes what is past its retention; the domains only declare what that is. */
@Global()
@Module({ imports: [JobsModule.forFeature([EnforceRetention])], providers: [Retention], exports: [Retention] })
export class RetentionModule {
  /** Declares which rows of the importing domain are deleted, and when. */
  static forFeature<E extends ObjectLiteral[]>(rules: { [I in keyof E]: RetentionRule<E[I]> }): DynamicModule {
    return retentionRules.declare(rules);
  }
}
