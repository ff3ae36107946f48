import type { DynamicModule, Type } from '@nestjs/common';
import type { MigrationInterface } from 'typeorm';
import { Feature } from '../features/index.js';
import type { Schema } from './data-source-options.js';

/** Tables of a module. */
export interface DeclaredTables {
  entities: readonly Type[];
  /** Names of those in which the migrations leave rows. */
  filledByMigrations: readonly string[];
}

export const declaredTables = new Feature<DeclaredTables>();

/**
 * The schema of everything that the modules declare.
 * @throws Error when two of them declare the same entity
 */
export function schemaOf(
  modules: readonly (Type | DynamicModule)[],
  migrations: readonly (new () => MigrationInterface)[],
): Schema {
  const declared = declaredTables.declaredBy(modules);
  const entities = declared.flatMap((tables) => tables.entities);
  const twice = entities.find((entity, n) => entities.indexOf(entity) !== n);
  if (twice) throw new Error(`The entity ${twice.name} belongs to two modules`);
  return { entities, migrations, filledByMigrations: declared.flatMap((tables) => tables.filledByMigrations) };
}
