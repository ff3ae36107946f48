import type { NextFunction, Request, RequestHandler, Response } from 'express';
import type { Settings } from '../config/index.js';
import { currentContext } from '../context/index.js';
import { AppError } from '../errors/index.js';
import type { ErrorFilter } from './error-filter.js';
import type { RateLimiter } from './rate-limiter.js';
import type { AuditPolicy } from './route-declarations.js';

declare module 'express-serve-static-core' {
  interface Request {
    /** Set by the guard from the route's declaration. */
    auditPolicy?: AuditPolicy;
  }
}

/** Refuses requests for versions of the API that do not exist, and from addresses that keep guessing credentials. */
export function checkRequest(settings: Settings, limiter: RateLimiter): RequestHandler {
  const own = `/${settings.apiPrefix}`;
  const base = `/${settings.apiPrefix.replace(/(^|\/)v\d+$/, '')}`.replace(/\/$/, '');
  const version = new RegExp(`^${base}/v\\d+(?=/|$)`);
  return (request, _response, next) => {
    // Routes match in any letter case, so these checks must too.
    const path = request.path.toLowerCase();
    const inApi = path === own || path.startsWith(`${own}/`);
    if (!inApi && version.test(path)) {
      const supported = settings.apiPrefix;
      throw new AppError('not_found', `This server speaks ${supported} only`, {
        code: 'UNSUPPORTED_VERSION',
        details: { path: request.path, supported },
      });
    }
    const context = currentContext();
    if (inApi && context) limiter.checkGuesses(context, request.headers);
    next();
  };
}

/** Renders errors of the middleware above. The filter renders errors of routes, with the same body. */
export function renderMiddlewareError(filter: ErrorFilter) {
  return (error: unknown, request: Request, response: Response, next: NextFunction): void => {
    filter.render(error, request, response).catch(next);
  };
}
