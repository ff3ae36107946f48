import { Baseline1764100000000 } from './1764100000000-baseline.js';

/** All migrations, oldest first. From the first release on a migration is never edited; a new one gets a new line here. */
export const migrations = [Baseline1764100000000];
