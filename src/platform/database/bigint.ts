import type { ValueTransformer } from 'typeorm';

/** A `bigint` column as a number: none of ours passes 2^53. The driver gives text, because PostgreSQL's own range does. */
export const bigintAsNumber: ValueTransformer = {
  from: (value: string | null) => (value === null ? null : Number(value)),
  to: (value: number | null) => value,
};

/** The same for an array of them. */
export const bigintArrayAsNumbers: ValueTransformer = {
  from: (value: string[] | null) => value?.map(Number) ?? null,
  to: (value: number[] | null) => value,
};
