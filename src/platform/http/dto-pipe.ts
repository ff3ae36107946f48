import { type ArgumentMetadata, Injectable, type Type, ValidationPipe } from '@nestjs/common';
import { getMetadataStorage, type ValidationError } from 'class-validator';
import { AppError, type FieldIssue, MAX_ISSUES } from '../errors/index.js';
import { expectedOf, unknownField } from './field-issues.js';

/** The metadata key of `@ApiProperty` options. The package does not export it. */
const MODEL_PROPERTIES = 'swagger/apiModelProperties';
const LOCATIONS = { body: 'body', query: 'query', param: 'path', custom: undefined } as const;

/** Validates bodies and queries against their DTO: strict types, no unknown fields, and every issue named. */
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
    // A missing body counts as an empty one, so that the answer names the missing fields.
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
          // One more than an answer lists, so that it can say that there are more.
          if (issues.push(issue) > MAX_ISSUES) break;
        }
        throw AppError.validation(issues);
      }
      throw error;
    }
  }

  /** Refuses a body with many unknown fields before validation, which would cost far more for each of them. */
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

/** Removes nulls that the API document does not allow, as validation has ignored them, so that no service has to handle them. */
function leaveOutNulls(value: unknown): void {
  if (Array.isArray(value)) value.forEach(leaveOutNulls);
  if (!isDto(value)) return;
  for (const [name, field] of Object.entries(value)) {
    if (field === null && !isNullable(value, name)) Reflect.deleteProperty(value, name);
    else leaveOutNulls(field);
  }
}

/** False for free-form data of callers (such as the data of an event), which stays a plain object. */
function isDto(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype !== Object.prototype && prototype !== null;
}

function isNullable(dto: object, name: string): boolean {
  const documented = Reflect.getMetadata(MODEL_PROPERTIES, dto, name) as { nullable?: boolean } | undefined;
  return documented?.nullable === true;
}

/** Yields the issues one at a time, because a body may have thousands and only the first are needed. */
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

/** The first rule that the value breaks, and what all its rules expect. */
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

/** The type of the received value. The value itself may be a secret and is not repeated. */
function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}
