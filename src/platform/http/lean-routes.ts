import type { IncomingMessage, ServerResponse } from 'node:http';
import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { type Actor, type RequestContext, runInContext } from '../context/index.js';
import { AppError } from '../errors/index.js';
import { Logger } from '../observability/index.js';
import { BodyBudget, type BodyShare } from './body-budget.js';
import type { BodyLimits } from './body-guard.js';
import { BodyReader } from './body-reader.js';
import { authorize, Gatekeeper } from './gatekeeper.js';
import { InFlight } from './in-flight.js';
import { RateLimiter } from './rate-limiter.js';
import { causeOf, renderError } from './render-error.js';
import { RequestObservers } from './request-observers.js';
import { inTime } from './request-timeout.js';
import type { AuditPolicy } from './route-declarations.js';
import { sendJson } from './send-json.js';

/**
 * A shorter path to a high-rate POST route that also exists as an ordinary controller route. It skips Express and Nest, but
 * applies the same authentication, scopes, limits, body guard, audit policy and error bodies.
 */
export interface LeanRoute {
  /** Path after the API prefix, without parameters: `/telemetry/events`. */
  path: string;
  anyOf: readonly string[];
  audit: AuditPolicy;
  /** The category of its rate limit, as `@RateLimit` of the ordinary route. */
  rateLimit?: string;
  limits: BodyLimits;
  /** As `@LargeBody` of the ordinary route. */
  largeBody?: boolean;
  /** `raw` are the bytes that `body` was parsed from. */
  handle(actor: Actor, body: unknown, raw: Buffer): Promise<{ status: number; body: object }>;
}

/** Headers that only the ordinary route handles. */
const ORDINARY_ONLY = ['idempotency-key', 'expect', 'origin', 'cookie', 'content-encoding'] as const;

@Injectable()
export class LeanRoutes {
  private readonly routes = new Map<string, LeanRoute>();

  constructor(
    private readonly settings: Settings,
    private readonly gatekeeper: Gatekeeper,
    private readonly observers: RequestObservers,
    private readonly limiter: RateLimiter,
    private readonly bodies: BodyReader,
    private readonly budget: BodyBudget,
    private readonly inFlight: InFlight,
    private readonly logger: Logger,
  ) {}

  register(route: LeanRoute): void {
    this.routes.set(`/${this.settings.apiPrefix}${route.path}`, route);
  }

  /** The body limits of this route, which also apply to its ordinary route; undefined for the usual limits. */
  limitsFor(path: string): BodyLimits | undefined {
    return this.routes.get(path)?.limits;
  }

  /** Handles the request when a lean route fits it exactly. Otherwise returns false and leaves it untouched. */
  take(request: IncomingMessage, response: ServerResponse, context: RequestContext): boolean {
    if (request.method !== 'POST' || !this.settings.runsApi) return false;
    const route = this.routes.get(request.url ?? '');
    if (!route || ORDINARY_ONLY.some((name) => request.headers[name] !== undefined)) return false;
    context.route = context.path;
    void runInContext(context, () => this.serve(route, context, request, response));
    return true;
  }

  private async serve(
    route: LeanRoute,
    context: RequestContext,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    let status: number;
    let body: object;
    let headers: Record<string, string> = {};
    let share: BodyShare | undefined;
    try {
      this.limiter.checkGuesses(context, request.headers);
      // Awaits only real promises: each await creates promises, and tracking the context through them costs time.
      const found = this.gatekeeper.authenticate(request.headers, context.ip ?? '');
      const actor = found instanceof Promise ? await found : found;
      context.actor = actor;
      authorize(actor, { public: false, anyOf: route.anyOf });
      const counting = this.limiter.admit(context, route.rateLimit, response);
      if (counting) await counting;
      share = this.budget.open(context.ip ?? '', actor.id, request.headers);
      const maxBytes = route.largeBody ? this.budget.largeBody : this.settings.bodyLimit;
      const read = await this.bodies.readJson(request, share, maxBytes, route.limits);
      if (!read) {
        throw AppError.validation({
          field: '',
          issue: 'a JSON body is required',
          expected: 'a JSON body',
          location: 'body',
        });
      }
      this.inFlight.takePlace(response, context.ip ?? '');
      const { value, raw } = read;
      ({ status, body } = await inTime(() => route.handle(actor, value, raw), this.settings.requestTimeout));
    } catch (error) {
      const rendered = renderError(await this.limiter.refuse(context, request.headers, error, response));
      ({ status, body, headers } = rendered);
      if (rendered.unexpected) this.logger.error({ err: causeOf(error) }, 'Unexpected error');
    }
    share?.release();
    sendJson(request, response, status, body, { 'X-Request-ID': context.requestId, ...headers });
    this.observers.finished({
      context,
      status,
      durationMs: performance.now() - context.startedAt,
      audit: route.audit,
    });
  }
}
