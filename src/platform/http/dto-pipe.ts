import { type ArgumentMetadata, Injectable, type Type, ValidationPipe } from '@nestjs/common';
import { getMetadataStorage, type ValidationError } from 'class-validator';
import { AppError, type FieldIssue, MAX_ISSUES } from '../errors/index.js';
import { expectedOf, unknownField } from './field-issues.js';

/** Where `@ApiProperty` keeps what it was given; the package does not export the name. */
const MODEL_PROPERTIES = 'swagger/apiModelProperties';
const LOCATIONS = { body: 'body', query: 'query', param: 'path', custom: undefined } as const;

/** Checks bodies and queries against their DTO: types strict, unknown fields refused, every issue named. */
@Injectable()
export class DtoPipe extends ValidationPipe {
  constructor() {
    super({
      whitelist: true,
      forbidNonWhitelisted: true,
      transform: true,
      validationError: { target: true, value: true },
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
      throw AppError.validation({
        field: '',
        issue: 'must be a JSON object',
        received: describe(given),
        location: 'body',
      });
    }
    this.refuseManyUnknown(given, metadata);
    try {
      const checked = (await super.transform(given, metadata)) as unknown;
      leaveOutNulls(checked);
      return checked;
    } catch (error) {
      if (Array.isArray(error)) {
        const issues: FieldIssue[] = [];
        for (const issue of issuesOf(error as ValidationError[], '', LOCATIONS[metadata.type])) {
          // One more than an answer names: it says then that there are more.
          if (issues.push(issue) > MAX_ISSUES) break;
        }
        throw AppError.validation(issues);
      }
      throw error;
    }
  }

  /** Many unknown fields are refused before the checks, which cost far more for each of them. */
  private refuseManyUnknown(given: unknown, metadata: ArgumentMetadata): void {
    if (typeof given !== 'object' || given === null || Array.isArray(given) || !this.toValidate(metadata)) return;
    const names = Object.keys(given);
    if (names.length <= MAX_ISSUES) return;
    const known = fieldsOf(metadata.metatype!);
    const unknown = names.filter((name) => !known.includes(name)).slice(0, MAX_ISSUES + 1);
    if (unknown.length <= MAX_ISSUES) return;
    const location = LOCATIONS[metadata.type];
    throw AppError.validation(
      unknown.map((field) => ({
        field,
        ...unknownField(field, known),
        received: describe((given as Record<string, unknown>)[field]),
        location,
      })),
    );
  }

  override createExceptionFactory() {
    return (errors: ValidationError[] = []): unknown => errors;
  }
}

/** A null that the API document does not allow counts as left out, as the checks have taken it: no service need think of it. */
function leaveOutNulls(value: unknown): void {
  if (Array.isArray(value)) value.forEach(leaveOutNulls);
  if (!isDto(value)) return;
  for (const [name, field] of Object.entries(value)) {
    if (field === null && !isNullable(value, name)) Reflect.deleteProperty(value, name);
    else leaveOutNulls(field);
  }
}

/** What callers send as they like (the data of an event) stays a plain object. */
function isDto(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype !== Object.prototype && prototype !== null;
}

function isNullable(dto: object, name: string): boolean {
  const documented = Reflect.getMetadata(MODEL_PROPERTIES, dto, name) as { nullable?: boolean } | undefined;
  return documented?.nullable === true;
}

/** Made one by one as they are asked for: a body may be wrong in thousands of places. */
function* issuesOf(
  errors: ValidationError[],
  parent: string,
  location: FieldIssue['location'],
): Generator<FieldIssue, void, undefined> {
  for (const error of errors) {
    const field = parent ? `${parent}.${error.property}` : error.property;
    if (error.constraints) yield { field, ...wrong(error), received: describe(error.value), location };
    yield* issuesOf(error.children ?? [], field, location);
  }
}

/** The first rule that the value breaks, and all that it would have to keep. */
function wrong({ property, target, value, constraints = {} }: ValidationError): { issue: string; expected?: string } {
  if ('whitelistValidation' in constraints) return unknownField(property, target ? fieldsOf(target.constructor) : []);
  const rules = Object.values(constraints);
  const expected = rules.map(expectedOf).filter((rule) => rule !== undefined);
  return {
    issue: value === undefined ? 'is required' : rules[0],
    ...(expected.length > 0 ? { expected: expected.join('; ') } : {}),
  };
}

function fieldsOf(dto: object): string[] {
  const rules = getMetadataStorage().getTargetValidationMetadatas(dto as Type, '', false, false);
  return [...new Set(rules.map(({ propertyName }) => propertyName))];
}

/** What came instead, without repeating a value that may be a secret. */
function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}
