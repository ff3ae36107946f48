import { Injectable } from '@nestjs/common';
import { HandleJob } from '../platform/jobs/index.js';
import { SecurityAlerts } from './alerts/security-alerts.js';
import { LoginAttempts } from './accounts/login-attempts.js';
import { Sessions } from './accounts/sessions.js';
import { Credentials } from './keys/credentials.js';
import { PurgeCredentials, PurgeSecurityAlerts, PurgeSessions } from './security.jobs.js';

@Injectable()
export class SecurityWorker {
  constructor(
    private readonly sessions: Sessions,
    private readonly credentials: Credentials,
    private readonly attempts: LoginAttempts,
    private readonly alerts: SecurityAlerts,
  ) {}

  @HandleJob(PurgeSessions)
  purgeSessions(): Promise<void> {
    return this.sessions.purge();
  }

  @HandleJob(PurgeCredentials)
  async purgeCredentials(): Promise<void> {
    await this.credentials.purge();
    await this.attempts.purge();
  }

  @HandleJob(PurgeSecurityAlerts)
  purgeAlerts(): Promise<void> {
    return this.alerts.purge();
  }
}
