import type { IncomingHttpHeaders } from 'node:http';
import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { type Actor, runDetached } from '../context/index.js';
import { isAppError } from '../errors/index.js';
import { Gatekeeper } from '../http/index.js';

/** The caller and the credential that opened a long-lived connection. */
export interface CredentialHolder {
  actor: Actor;
  /** Headers with the credential, to look it up again. */
  headers: IncomingHttpHeaders;
  ip: string;
}

interface Watched extends CredentialHolder {
  end: (reason: string) => void;
  /** Unix milliseconds. */
  expiresAt: number;
  checkAt: number;
}

const TICK_MS = 1000;
/** A revocation message can be lost between processes: every credential is looked up again this often. */
const RECHECK_MS = 60_000;
/** Pause before another try when the database did not answer. */
const RETRY_MS = 5000;
const CHECK_CONCURRENCY = 16;

/**
 * Ends sockets and streams whose credential was revoked, has expired or has got other scopes: at once after a revocation message,
 * a second after the credential expires or the bus reconnects, and otherwise at a check every minute.
 */
@Injectable()
export class CredentialWatch implements OnModuleDestroy {
  private readonly watched = new Set<Watched>();
  private readonly ticking = setInterval(() => this.tick(), TICK_MS).unref();
  private readonly stopListening: () => void;

  constructor(private readonly gatekeeper: Gatekeeper) {
    this.stopListening = gatekeeper.onRevoked(({ actorId, credentialId }) => {
      const anybody = actorId === undefined && credentialId === undefined;
      for (const one of this.watched) {
        const { actor } = one;
        if (anybody) one.checkAt = 0;
        else if (actor.id === actorId || (credentialId !== undefined && actor.credentialId === credentialId)) {
          this.end(one, 'The credential was revoked');
        }
      }
    });
  }

  /**
   * Calls `end` once, with the reason, when the credential is no longer valid or no longer has the scopes it had at the start.
   * @returns a function that ends the watch
   */
  watch(holder: CredentialHolder, end: (reason: string) => void): () => void {
    const expiresAt = holder.actor.expiresAt ?? Infinity;
    const one: Watched = { ...holder, end, expiresAt, checkAt: Math.min(Date.now() + RECHECK_MS, expiresAt) };
    this.watched.add(one);
    return () => void this.watched.delete(one);
  }

  onModuleDestroy(): void {
    clearInterval(this.ticking);
    this.stopListening();
  }

  private tick(): void {
    const now = Date.now();
    const due = [...this.watched].filter(({ checkAt }) => checkAt <= now);
    for (const one of due) one.checkAt = now + RECHECK_MS;
    const checkNext = async (): Promise<void> => {
      for (let one = due.pop(); one; one = due.pop()) await this.check(one);
    };
    for (let n = Math.min(due.length, CHECK_CONCURRENCY); n > 0; n--) void runDetached(checkNext);
  }

  private async check(one: Watched): Promise<void> {
    const { actor, headers, ip } = one;
    // Only logins can be extended. Looking up an expired key would count as misuse of it.
    if (one.expiresAt <= Date.now() && actor.type !== 'user') {
      this.end(one, 'The credential has expired');
      return;
    }
    try {
      const now = await this.gatekeeper.authenticate(headers, ip);
      if (!hasSameScopes(now, actor)) this.end(one, 'The scopes of the credential have changed');
      one.expiresAt = now.expiresAt ?? Infinity;
      one.checkAt = Math.min(one.checkAt, Math.max(one.expiresAt, Date.now()));
    } catch (error) {
      if (isAppError(error) && error.kind === 'unauthenticated') this.end(one, 'The credential is no longer valid');
      else one.checkAt = Date.now() + RETRY_MS;
    }
  }

  private end(one: Watched, reason: string): void {
    if (this.watched.delete(one)) one.end(reason);
  }
}

function hasSameScopes(a: Actor, b: Actor): boolean {
  return a.scopes.size === b.scopes.size && [...a.scopes].every((scope) => b.scopes.has(scope));
}
