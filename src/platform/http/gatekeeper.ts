import type { IncomingHttpHeaders } from 'node:http';
import { type Actor, actorHas } from '../context/index.js';
import { AppError } from '../errors/index.js';
import type { Access } from './route-declarations.js';

/** The owner of something that acts without a request, such as a webhook. The ids are public ids. */
export interface Holder {
  actorId: string;
  /** The key or token that created it; null for a session, whose end changes nothing. */
  credentialId: string | null;
}

/** Identifies the caller of a request. The security domain implements it for Nest's guard, the lean routes and sockets. */
export abstract class Gatekeeper {
  /**
   * Finds the active principal of the credential in a request. Returns it without a promise when it was looked up a moment ago.
   * @throws AppError `unauthenticated` without a credential, with a bad one or with two different ones
   */
  abstract authenticate(headers: IncomingHttpHeaders, ip: string): Actor | Promise<Actor>;

  /**
   * Calls `listener` in every process, within a second, when a credential or principal has lost rights. A call without ids means that
   * messages may have been lost, so that any credential may have lost rights.
   */
  abstract onRevoked(listener: (revoked: { actorId?: string; credentialId?: string }) => void): () => void;

  /** The current rights of the holder; none when the user was deleted or suspended, or the key was revoked. */
  abstract rightsNow(holder: Holder): Promise<Pick<Actor, 'scopes' | 'targetLabels' | 'agentLabels'>>;
}

/** @throws AppError `forbidden` naming the scope that is missing */
export function authorize(actor: Actor, access: Access): void {
  if (access.public || access.anyOf.length === 0 || access.anyOf.some((scope) => actorHas(actor, scope))) return;
  throw AppError.forbidden(`This needs the scope ${access.anyOf.join(' or ')}`, { required_scopes: [...access.anyOf] });
}
