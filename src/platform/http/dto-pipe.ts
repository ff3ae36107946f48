import { type ArgumentMetadata, Injectable, ValidationPipe } from '@nestjs/common';
import type { ValidationError } from 'class-validator';
import { AppError, type FieldIssue } from '../errors/index.js';

const LOCATIONS = { body: 'body', query: 'query', param: 'path', custom: undefined } as const;

/** Checks bodies and queries against their DTO: types strict, unknown fields refused, every issue named (C-03, rule GEN-04). */
@Injectable()
export class DtoPipe extends ValidationPipe {
  constructor() {
    super({
      whitelist: true,
      forbidNonWhitelisted: true,
      transform: true,
      validationError: { target: false, value: true },
    });
  }

  override async transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    // A missing body is an empty one, so that the answer names the fields that are missing.
    const given = metadata.type === 'body' && value === undefined ? {} : value;
    if (
      metadata.type === 'body' &&
      this.toValidate(metadata) &&
      (typeof given !== 'object' || given === null || Array.isArray(given))
    ) {
      throw AppError.validation({ field: '', issue: 'must be a JSON object', location: 'body' });
    }
    try {
      return (await super.transform(given, metadata)) as unknown;
    } catch (error) {
      if (Array.isArray(error)) {
        throw AppError.validation(issuesOf(error as ValidationError[], '', LOCATIONS[metadata.type]));
      }
      throw error;
    }
  }

  override createExceptionFactory() {
    return (errors: ValidationError[] = []): unknown => errors;
  }
}

function issuesOf(errors: ValidationError[], parent: string, location: FieldIssue['location']): FieldIssue[] {
  return errors.flatMap((error) => {
    const field = parent ? `${parent}.${error.property}` : error.property;
    const own = Object.values(error.constraints ?? {}).map((issue): FieldIssue => ({
      field,
      issue,
      received: describe(error.value),
      location,
    }));
    return [...own.slice(0, 1), ...issuesOf(error.children ?? [], field, location)];
  });
}

/** What came instead, without repeating a value that may be a secret. */
function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}
