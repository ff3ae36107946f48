import { migrations } from '../migrations/index.js';
import { domains } from './domains.js';
import { schemaOf } from './platform/database/index.js';
import { platformModules } from './platform/platform-modules.js';

/** Entities and migrations of the whole database, for the server and for the TypeORM CLI alike. */
export const schema = schemaOf([...platformModules, ...domains], migrations);
