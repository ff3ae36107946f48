import { Injectable } from '@nestjs/common';
import type { Request } from 'express';
import { currentContext } from '../context/index.js';
import { isAppError } from '../errors/index.js';
import { clientIp } from './client-ip.js';
import { authorize, Gatekeeper } from './gatekeeper.js';
import { hasCredential, RateLimiter } from './rate-limiter.js';

/** Protects `@Public()` routes that a setting can close. */
@Injectable()
export class OpenAccess {
  constructor(
    private readonly gatekeeper: Gatekeeper,
    private readonly limiter: RateLimiter,
  ) {}

  /**
   * Does nothing when `open`. Otherwise admits only callers with `scope`.
   * @throws AppError `unauthenticated`, `forbidden`, `rate_limited` for an address that has sent too many wrong credentials
   */
  async require(request: Request, open: boolean, scope: string): Promise<void> {
    if (open) return;
    const context = currentContext();
    if (context) this.limiter.checkGuesses(context, request.headers);
    try {
      const actor = await this.gatekeeper.authenticate(request.headers, context?.ip ?? clientIp(request));
      if (context) context.actor = actor;
      authorize(actor, { public: false, anyOf: [scope] });
    } catch (error) {
      // The route has no rate limit, but wrong credentials are counted on every route.
      const guessed = isAppError(error) && error.kind === 'unauthenticated' && hasCredential(request.headers);
      if (context && guessed) context.counted = false;
      throw error;
    }
  }
}
