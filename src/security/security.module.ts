import { Global, Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { LessThan, Not } from 'typeorm';
import { DatabaseModule } from '../platform/database/index.js';
import { EventsModule } from '../platform/events/index.js';
import { Gatekeeper, HttpModule } from '../platform/http/index.js';
import { CredentialWatch } from '../platform/realtime/index.js';
import { RetentionModule } from '../platform/retention/index.js';
import { AccessTokens } from './access/access-tokens.js';
import { AccessGuard } from './access/access.guard.js';
import { Authenticator } from './access/authenticator.js';
import { LastUsed } from './access/last-used.js';
import { LivePrincipals } from './access/live-principals.js';
import { Revocations } from './access/revocations.js';
import { AccessTokenStrategy, KeyStrategy } from './access/strategies.js';
import { AccountService } from './accounts/account.service.js';
import { AuthController } from './accounts/auth.controller.js';
import { FirstRun } from './accounts/first-run.js';
import { JwksController } from './accounts/jwks.controller.js';
import { LoginAttempt } from './accounts/login-attempt.entity.js';
import { ANYWHERE, LoginAttempts, NETWORKS_KEPT_DAYS } from './accounts/login-attempts.js';
import { LoginNetwork } from './accounts/login-network.entity.js';
import { FAILURES_KEPT_DAYS, FREE_FAILURES } from './accounts/login-waits.js';
import { LoginService } from './accounts/login.service.js';
import { RefreshToken } from './accounts/refresh-token.entity.js';
import { Session } from './accounts/session.entity.js';
import { SessionsController } from './accounts/sessions.controller.js';
import { Sessions } from './accounts/sessions.js';
import { SessionsService } from './accounts/sessions.service.js';
import { User } from './accounts/user.entity.js';
import { Users } from './accounts/users.js';
import { AlertSignals } from './alerts/alert-signals.js';
import { SecurityAlertsController } from './alerts/alerts.controller.js';
import { SecurityAlert as StoredAlert } from './alerts/security-alert.entity.js';
import { SecurityAlerts } from './alerts/security-alerts.js';
import { SecuritySignal } from './alerts/security-signal.entity.js';
import { AuditModule } from './audit.module.js';
import { AgentCredentials } from './keys/agent-credentials.js';
import { ApiKeysController } from './keys/api-keys.controller.js';
import { Credential } from './keys/credential.entity.js';
import { Credentials } from './keys/credentials.js';
import { KeysService } from './keys/keys.service.js';
import { TokensController } from './keys/tokens.controller.js';
import { MasterKeysModule } from './master-keys/master-keys.module.js';
import { AuthRolesController } from './roles/auth-roles.controller.js';
import { Role } from './roles/role.entity.js';
import { RolesController } from './roles/roles.controller.js';
import { RolesService } from './roles/roles.service.js';
import {
  UserCreated,
  UserLoggedIn,
  UserLoggedOut,
  TokenCreated,
  SecurityAlert,
  TokenRevoked,
} from './security.events.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    user: 'user';
    sess: 'session';
    key: 'API key';
    token: 'access token';
    role: 'role';
    rekey: 're-encryption';
  }
}

@Global()
@Module({
  imports: [
    EventsModule.forFeature({
      events: [UserCreated, UserLoggedIn, UserLoggedOut, TokenCreated, SecurityAlert, TokenRevoked],
      families: [
        { types: ['user.login', 'user.logout'], channel: 'security.events', scope: 'user:read' },
        // Other systems have users too.
        { types: ['user.*'], channel: 'security.events', scope: 'user:read', open: true },
        { types: ['token.*', 'security.*'], channel: 'security.events', scope: 'security:read' },
        { types: ['security.alert'], channel: 'system.alerts', scope: 'security:read' },
      ],
    }),
    HttpModule.forFeature({
      tags: { auth: 'Login, sessions, API keys', security: 'Access tokens, roles, the audit trail' },
    }),
    DatabaseModule.forFeature([
      LoginAttempt,
      LoginNetwork,
      RefreshToken,
      Session,
      User,
      StoredAlert,
      SecuritySignal,
      Credential,
      Role,
    ]),
    AuditModule,
    MasterKeysModule,
    RetentionModule.forFeature([
      { entity: Session, column: 'expiresAt', days: 0 },
      { entity: Credential, column: 'expiresAt', days: 30 },
      { entity: Credential, column: 'revokedAt', days: 30 },
      { entity: LoginAttempt, column: 'lastAt', days: FAILURES_KEPT_DAYS },
      // Those that cause no wait yet.
      {
        entity: LoginAttempt,
        column: 'lastAt',
        days: 1,
        where: { network: Not(ANYWHERE), failures: LessThan(FREE_FAILURES) },
      },
      { entity: LoginNetwork, column: 'lastAt', days: NETWORKS_KEPT_DAYS },
      { entity: StoredAlert, column: 'createdAt', days: 90 },
    ]),
  ],
  controllers: [
    ApiKeysController,
    AuthController,
    AuthRolesController,
    JwksController,
    RolesController,
    SecurityAlertsController,
    SessionsController,
    TokensController,
  ],
  providers: [
    AccountService,
    AccessTokens,
    AccessTokenStrategy,
    AgentCredentials,
    AlertSignals,
    Authenticator,
    Credentials,
    CredentialWatch,
    FirstRun,
    KeysService,
    KeyStrategy,
    LastUsed,
    LivePrincipals,
    LoginAttempts,
    LoginService,
    Revocations,
    RolesService,
    SecurityAlerts,
    Sessions,
    SessionsService,
    Users,
    { provide: Gatekeeper, useExisting: Authenticator },
    { provide: APP_GUARD, useClass: AccessGuard },
  ],
  exports: [AgentCredentials, CredentialWatch, FirstRun, Gatekeeper],
})
export class SecurityModule {}
