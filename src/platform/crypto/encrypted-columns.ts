import { DiscoveryService } from '@nestjs/core';

/** A table with encrypted columns, so that its values can be encrypted again with another master key. */
export interface EncryptedTable {
  readonly table: string;
  /** Columns of the primary key. */
  readonly key: readonly string[];
  readonly columns: readonly string[];
  /** The context that the values of a row are encrypted with, from the columns of its key as text. */
  context(row: Record<string, string>): string;
}

/** Marks the provider that encrypts the columns of a table. Every encrypted column must be declared, or it loses its master key. */
export const EncryptedColumns = DiscoveryService.createDecorator<EncryptedTable>();
