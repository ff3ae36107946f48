import type { ServerResponse } from 'node:http';
import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request } from 'express';
import type { Observable } from 'rxjs';
import { Settings } from '../config/index.js';
import { currentContext, type RequestContext } from '../context/index.js';
import { BodyBudget } from './body-budget.js';
import { BodyReader, STRANGER_LIMITS } from './body-reader.js';
import { answersAlways } from './entrance.js';
import { InFlight } from './in-flight.js';
import { LeanRoutes } from './lean-routes.js';
import { RateLimiter } from './rate-limiter.js';
import { rateCategoryOf } from './rate-policy.js';
import { leavesBodyUnparsed, maxBodyOf, takesLargeBody } from './route-declarations.js';

declare module 'express-serve-static-core' {
  interface Request {
    /** Exact bytes of the body, for signatures. */
    rawBody?: Buffer;
  }
}

/** Methods whose bodies are ignored. */
const BODILESS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Runs after the guards of a route and before everything else. First the rate limit counts the request, then the body is read into
 * `request.body` and `request.rawBody`, and then the request takes one of the places for concurrent requests. So the server reads
 * only what the rate limit allows, and a request that never becomes complete holds no place.
 */
@Injectable()
export class AdmissionInterceptor implements NestInterceptor {
  constructor(
    private readonly settings: Settings,
    private readonly limiter: RateLimiter,
    private readonly bodies: BodyReader,
    private readonly budget: BodyBudget,
    private readonly inFlight: InFlight,
    private readonly lean: LeanRoutes,
    private readonly reflector: Reflector,
  ) {}

  async intercept(execution: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const context = currentContext();
    if (context && execution.getType() === 'http') await this.admit(execution, context);
    return next.handle();
  }

  private async admit(execution: ExecutionContext, context: RequestContext): Promise<void> {
    const http = execution.switchToHttp();
    const category = rateCategoryOf(this.reflector, [execution.getHandler(), execution.getClass()]);
    const [request, response] = [http.getRequest<Request>(), http.getResponse<ServerResponse>()];
    await this.limiter.admit(context, category, response);
    try {
      if (!BODILESS.has(request.method)) await this.read(execution, context, request);
    } catch (error) {
      // A route of category `none` counts its requests itself, but did not run. The error filter counts this one.
      if (category === 'none') context.counted = false;
      throw error;
    }
    if (!answersAlways(context)) this.inFlight.takePlace(response, context.ip ?? '');
  }

  private async read(execution: ExecutionContext, context: RequestContext, request: Request): Promise<void> {
    const { path } = request.route as { path: string };
    const targets = [execution.getHandler()];
    const { largeBody } = this.budget;
    const allowed = takesLargeBody(this.reflector, targets) ? largeBody : this.settings.bodyLimit;
    const maxBytes = Math.min(allowed, maxBodyOf(this.reflector, targets) ?? allowed);
    const share = this.budget.open(context.ip ?? '', context.actor?.id, request.headers);
    // The body stays in memory until the request ends, and so does its share of the budget.
    execution
      .switchToHttp()
      .getResponse<ServerResponse>()
      .once('close', () => share.release());
    if (leavesBodyUnparsed(this.reflector, targets)) {
      request.rawBody = await this.bodies.readRaw(request, share, maxBytes);
      return;
    }
    const limits = this.lean.limitsFor(path) ?? (context.actor ? undefined : STRANGER_LIMITS);
    const read = await this.bodies.readJson(request, share, maxBytes, limits);
    request.body = read?.value;
    request.rawBody = read?.raw;
  }
}
