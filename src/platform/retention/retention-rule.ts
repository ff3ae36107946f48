import type { Type } from '@nestjs/common';
import type { FindOptionsWhere, ObjectLiteral } from 'typeorm';
import type { LoadedSettings } from '../config/index.js';
import { Feature } from '../features/index.js';

/** Says which rows of a table are deleted, and when. */
export interface RetentionRule<E extends ObjectLiteral> {
  readonly entity: Type<E>;
  /** The time from which the days count; with several, the latest of them. */
  readonly column: (keyof E & string) | (keyof E & string)[];
  readonly days: number | ((settings: LoadedSettings) => number);
  /** Only rows like these are deleted; without it all are. */
  readonly where?: FindOptionsWhere<E>;
}

export const retentionRules = new Feature<readonly RetentionRule<ObjectLiteral>[]>();
