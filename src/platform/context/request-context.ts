import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingHttpHeaders } from 'node:http';
import type { EntityManager } from 'typeorm';
import type { Actor } from './actor.js';

/** What is known about the work in hand: an HTTP request, a socket message or a job. Carried through every await. */
export interface RequestContext {
  readonly requestId: string;
  /** When the work began, `performance.now()`. */
  readonly startedAt: number;
  actor?: Actor;
  /** Set when the request was let in by a ticket: headers of the credential it stands for, and what it says. */
  ticket?: { readonly headers: IncomingHttpHeaders; readonly grant: unknown };
  ip?: string;
  userAgent?: string;
  method?: string;
  /** Path as asked for, without the query. */
  path?: string;
  /** Route pattern with its prefix, e.g. `/api/v1/commands/:id`; set once routing is done. */
  route?: string;
  /** The header `X-User-ID`. It is recorded as context and never decides who the caller is. */
  claimedUserId?: string;
  /** Whom the audit entry names when the request itself proved who it is (login, refresh) and there is no actor. */
  auditedAs?: Pick<Actor, 'id' | 'credentialId'>;
  /** Public id of the resource the request acts on, for the audit entry. */
  resourceId?: string;
  /** HTTP status of a success on this route; set by the guard for the audit entry written before the answer. */
  expectedStatus?: number;
  /** True on high-rate routes, whose requests are counted by the minute instead of written down one by one. */
  auditByMinute?: boolean;
  /** Set once a rate limit has counted this request. */
  counted?: boolean;
  /** Set once the audit entry of this request is part of a transaction. */
  audited?: boolean;
  /** Has passed once the caller was told that the work took too long: the database refuses it from then on. */
  deadline?: { passed: boolean };
  /** Transaction that `Database.transaction` joins, while it is open, instead of opening its own. */
  transaction?: EntityManager;
}

const storage = new AsyncLocalStorage<RequestContext>();

export function currentContext(): RequestContext | undefined {
  return storage.getStore();
}

export function runInContext<T>(context: RequestContext, work: () => T): T {
  return storage.run(context, work);
}

/** Says which resource the request acts on, for its audit entry; the first one named stays. */
export function actsOn(resourceId: string): void {
  const context = currentContext();
  if (context) context.resourceId ??= resourceId;
}

/** Runs work that serves nobody in particular: what the request that set it off knows, its transaction too, stays out of it. */
export function runDetached<T>(work: () => T): T {
  return storage.exit(work);
}
