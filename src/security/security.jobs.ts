import { defineJob } from '../platform/jobs/index.js';

/** Deletes sessions whose time is over (AUTH-28). */
export const PurgeSessions = defineJob({ name: 'sessions.purge', queue: 'maintenance', everyMs: 15 * 60_000 });

/** Deletes keys that ended long ago, and failed logins that no longer count (AUTH-28). */
export const PurgeCredentials = defineJob({ name: 'credentials.purge', queue: 'maintenance', cron: '30 3 * * *' });

/** Deletes security alerts of long ago (SEC-13). */
export const PurgeSecurityAlerts = defineJob({
  name: 'security-alerts.purge',
  queue: 'maintenance',
  cron: '40 3 * * *',
});
