import { Matches } from 'class-validator';
import type { IdPrefix } from './id-prefixes.js';
import { publicIdForm, UUID_PATTERN } from './public-id.js';

/** The field, or with `each` every item of it, is a public id of this prefix. */
export function IsPublicId(prefix: IdPrefix, { each = false } = {}): PropertyDecorator {
  return Matches(new RegExp(`^${prefix}_${UUID_PATTERN}$`), {
    each,
    message: `${each ? 'each of ' : ''}$property must be ${publicIdForm(prefix)}`,
  });
}
