import type { Request } from 'express';
import { currentContext } from '../context/index.js';
import { clientIp } from './client-ip.js';
import { authorize, type Gatekeeper } from './gatekeeper.js';

/**
 * For `@Public()` routes that a setting can close: does nothing while `open`, else lets in only callers with `scope`.
 * @throws AppError `unauthenticated`, `forbidden`
 */
export async function requireUnlessOpen(
  gatekeeper: Gatekeeper,
  request: Request,
  open: boolean,
  scope: string,
): Promise<void> {
  if (open) return;
  const context = currentContext();
  const actor = await gatekeeper.authenticate(request.headers, context?.ip ?? clientIp(request));
  if (context) context.actor = actor;
  authorize(actor, { public: false, anyOf: [scope] });
}
