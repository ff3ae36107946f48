import { Feature } from '../features/index.js';

/** Groups of operations in the API document: name and description, in the order they are shown. */
export const apiTags = new Feature<Readonly<Record<string, string>>>();
