export { ownerOf, type OwnedKind, OwnerRights, type Rights } from './owner-rights.js';
export { CheckOwnerRights } from './ownership.jobs.js';
export { OwnershipModule } from './ownership.module.js';
