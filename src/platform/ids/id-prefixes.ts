/**
 * The prefixes of public ids, each with what it names. A domain adds its own in its module file:
 * `declare module '../platform/ids/id-prefixes.js' { interface IdPrefixes { task: 'task' } }`. Two that mean different things do not compile.
 */
export interface IdPrefixes {
  evt: 'event';
}

export type IdPrefix = keyof IdPrefixes;
