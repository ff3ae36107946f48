import type { ServerResponse } from 'node:http';
import { type ArgumentsHost, Catch, type ExceptionFilter, NotFoundException } from '@nestjs/common';
import type { Request, Response } from 'express';
import { currentContext } from '../context/index.js';
import { Logger } from '../observability/index.js';
import { KnownRoutes } from './known-routes.js';
import { RateLimiter } from './rate-limiter.js';
import { causeOf, renderError } from './render-error.js';
import { mustClose } from './send-json.js';

/** Renders all errors: those of routes through Nest, and those of the middleware before them by {@link render}. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  constructor(
    private readonly logger: Logger,
    private readonly limiter: RateLimiter,
    private readonly routes: KnownRoutes,
  ) {}

  async catch(thrown: unknown, host: ArgumentsHost): Promise<void> {
    const http = host.switchToHttp();
    await this.render(thrown, http.getRequest<Request>(), http.getResponse<Response>());
  }

  /** Counts the request against its rate limit if that was not done yet, and answers with the error body. */
  async render(thrown: unknown, request: Request, response: Response): Promise<void> {
    const context = currentContext();
    const refused = context ? await this.limiter.refuse(context, request.headers, thrown, response) : thrown;
    // Only Nest throws this, for paths without a route. Domains throw AppError.
    const error =
      refused instanceof NotFoundException ? this.routes.missing(request.method, context?.path ?? '') : refused;
    const { status, headers, body, unexpected } = renderError(error);
    if (unexpected) this.logger.error({ err: causeOf(thrown) }, 'Unexpected error');
    if (response.headersSent) {
      if (!response.writableFinished) (response as ServerResponse).destroy();
      return;
    }
    response.removeHeader('ETag');
    response.status(status).set('Cache-Control', 'no-store').set(headers);
    if (mustClose(request)) response.setHeader('Connection', 'close');
    response.json(body);
  }
}
