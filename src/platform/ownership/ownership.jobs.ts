import { defineJob } from '../jobs/index.js';

/** For rights that ended without a message, and messages that were lost. */
export const CheckOwnerRights = defineJob({
  name: 'ownership.check',
  queue: 'maintenance',
  attempts: 1,
  everyMs: 60_000,
});
