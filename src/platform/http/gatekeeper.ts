import type { IncomingHttpHeaders } from 'node:http';
import { type Actor, actorHas } from '../context/index.js';
import { AppError } from '../errors/index.js';
import type { Access } from './route-declarations.js';

/** Who has set up something that goes on without a request. Public ids. */
export interface Holder {
  actorId: string;
  /** The key or token used for it; null when it was a session, which ends without taking anything away. */
  credentialId: string | null;
}

/** Decides who a request comes from. The security domain implements it; Nest's guard, the lean routes and sockets share it. */
export abstract class Gatekeeper {
  /**
   * Finds the live principal behind the credential of a request: at once when it was looked up a moment ago.
   * @throws AppError `unauthenticated` without a credential, with a bad one or with two different ones
   */
  abstract authenticate(headers: IncomingHttpHeaders, ip: string): Actor | Promise<Actor>;

  /**
   * Calls `listener` when a credential or principal has lost its rights, on every process, within a second. With neither id messages
   * may have been lost: anybody may have lost rights.
   */
  abstract onRevoked(listener: (revoked: { actorId?: string; credentialId?: string }) => void): () => void;

  /** What the holder may do at this moment; nothing once the user is gone or suspended, or the key was revoked. */
  abstract rightsNow(holder: Holder): Promise<Pick<Actor, 'scopes' | 'targetLabels' | 'agentLabels'>>;
}

/** @throws AppError `forbidden` naming the scope that is missing */
export function authorize(actor: Actor, access: Access): void {
  if (access.public || access.anyOf.length === 0 || access.anyOf.some((scope) => actorHas(actor, scope))) return;
  throw AppError.forbidden(`This needs the scope ${access.anyOf.join(' or ')}`, { required_scopes: [...access.anyOf] });
}
