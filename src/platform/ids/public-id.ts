import { Injectable, Param, type PipeTransform } from '@nestjs/common';
import { ApiParam } from '@nestjs/swagger';
import { AppError } from '../errors/index.js';
import type { IdPrefix } from './id-prefixes.js';

const EXAMPLE_UUID = '550e8400-e29b-41d4-a716-446655440000';
export const UUID_PATTERN = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const UUID = new RegExp(`^${UUID_PATTERN}$`);

/** Makes `cmd_<uuid>` of `cmd` and the UUID of a row. */
export function publicId(prefix: IdPrefix, uuid: string): string {
  return `${prefix}_${uuid}`;
}

/** The UUID in a public id; null when the text is not an id with that prefix. */
export function parsePublicId(prefix: IdPrefix, text: string): string | null {
  if (!text.startsWith(`${prefix}_`)) return null;
  const uuid = text.slice(prefix.length + 1);
  return isUuid(uuid) ? uuid : null;
}

/** The form of ids with this prefix, for an error message. */
export function publicIdForm(prefix: IdPrefix): string {
  return `"${prefix}_" followed by a UUID in lower case`;
}

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** Converts a path parameter `cmd_<uuid>` to its UUID. An id of another form cannot exist and is answered 404. */
@Injectable()
class PublicId implements PipeTransform<string, string> {
  constructor(private readonly prefix: IdPrefix) {}

  transform(value: string): string {
    const uuid = parsePublicId(this.prefix, value);
    if (uuid !== null) return uuid;
    const expected = publicIdForm(this.prefix);
    throw new AppError('not_found', `${this.prefix} not found: its id must be ${expected}`, {
      details: { resource: this.prefix, id: value.slice(0, 100), expected },
    });
  }
}

/** A path parameter with a public id, documented with an example. The handler gets the UUID. */
export const IdParam =
  (prefix: IdPrefix, name = 'id'): ParameterDecorator =>
  (target, method, index) => {
    Param(name, new PublicId(prefix))(target, method, index);
    const handler = Object.getOwnPropertyDescriptor(target, method as string) as PropertyDescriptor;
    ApiParam({ name, schema: { type: 'string', example: publicId(prefix, EXAMPLE_UUID) } })(
      target,
      method as string,
      handler,
    );
  };
