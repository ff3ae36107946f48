import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import type { Actor } from '../../platform/context/index.js';
import { isAppError } from '../../platform/errors/index.js';
import { Gatekeeper, type Holder } from '../../platform/http/index.js';
import { Metrics } from '../../platform/observability/index.js';
import { AlertSignals } from '../alerts/alert-signals.js';
import { AccessTokens, SKEW_SECONDS } from './access-tokens.js';
import { LivePrincipals, type Principal } from './live-principals.js';
import { expiredToken, invalidToken, type PresentedCredential, presentedCredential } from './presented-credential.js';
import { type Revoked, Revocations } from './revocations.js';
import { LastUsed } from './last-used.js';

/** The one place that decides who a credential belongs to; guard, lean routes and sockets all ask it. */
@Injectable()
export class Authenticator extends Gatekeeper {
  private readonly failures;

  constructor(
    private readonly principals: LivePrincipals,
    private readonly tokens: AccessTokens,
    private readonly lastUsed: LastUsed,
    private readonly revocations: Revocations,
    private readonly signals: AlertSignals,
    metrics: Metrics,
  ) {
    super();
    this.failures = metrics.counter('nexus_auth_failures_total', 'Requests refused for their credential', ['reason']);
  }

  authenticate(headers: IncomingHttpHeaders, _ip: string): Actor | Promise<Actor> {
    const fail = (error: unknown): never => {
      throw this.counted(error);
    };
    try {
      const found = this.identify(presentedCredential(headers));
      return found instanceof Promise ? found.catch(fail) : found;
    } catch (error) {
      return fail(error);
    }
  }

  /** @throws AppError `unauthenticated` with TOKEN_INVALID or TOKEN_EXPIRED */
  identify(credential: PresentedCredential): Actor | Promise<Actor> {
    return credential.kind === 'jwt' ? this.byAccessToken(credential.text) : this.byKey(credential.text);
  }

  onRevoked(listener: (revoked: Revoked) => void): () => void {
    return this.revocations.subscribe(listener);
  }

  rightsNow(holder: Holder): Promise<Pick<Actor, 'scopes' | 'targetLabels' | 'agentLabels'>> {
    return this.principals.rightsNow(holder);
  }

  /** Counts a refusal by its reason and gives it back. */
  counted(error: unknown): unknown {
    if (isAppError(error) && error.status < 500) this.failures.inc({ reason: error.type ?? error.code });
    return error;
  }

  private byKey(text: string): Actor | Promise<Actor> {
    const found = this.principals.key(text);
    return found instanceof Promise
      ? found.then((principal) => this.holderOf(text, principal))
      : this.holderOf(text, found);
  }

  private holderOf(text: string, principal: Principal | null): Actor {
    const expired = principal?.expiresAt != null && principal.expiresAt <= Date.now();
    if (!principal || expired) {
      this.signals.keyRefused(text);
      throw expired ? expiredToken() : invalidToken();
    }
    this.lastUsed.touch(principal.actor);
    return principal.actor;
  }

  private async byAccessToken(text: string): Promise<Actor> {
    const claims = await this.tokens.verify(text);
    const principal = await this.principals.session(claims.sessionId);
    if (!principal || principal.actor.userId !== claims.userId) throw invalidToken('The session has ended');
    if (principal.expiresAt !== null && principal.expiresAt <= Date.now()) throw expiredToken();
    // The claim counts whole seconds.
    if (claims.issuedAt < Math.floor(principal.notBefore / 1000)) throw invalidToken('The session has ended');
    this.lastUsed.touch(principal.actor);
    const expiresAt = Math.min(principal.expiresAt ?? Infinity, (claims.expiresAt + SKEW_SECONDS) * 1000);
    return { ...principal.actor, expiresAt };
  }
}
