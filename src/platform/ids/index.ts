export type { IdPrefix, IdPrefixes } from './id-prefixes.js';
export { IdParam, isUuid, parsePublicId, publicId, publicIdForm } from './public-id.js';
export { IsPublicId } from './is-public-id.js';
