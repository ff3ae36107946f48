import { applyDecorators, createParamDecorator, type ExecutionContext, Header, SetMetadata } from '@nestjs/common';
import type { Reflector } from '@nestjs/core';
import { ApiBearerAuth, ApiExtension, ApiSecurity } from '@nestjs/swagger';
import { type Actor, currentContext } from '../context/index.js';
import { AppError } from '../errors/index.js';

const ACCESS = 'nexus:access';
const AUDIT = 'nexus:audit';
const LARGE_BODY = 'nexus:large-body';
const MAX_BODY = 'nexus:max-body';
const UNPARSED_BODY = 'nexus:unparsed-body';
const TICKET = 'nexus:ticket';

/** Who may call a route: everyone, or an actor that holds one of the scopes (an empty list: any authenticated actor). */
export type Access = { public: true } | { public: false; anyOf: readonly string[] };

/** `entry`: one audit entry per request. `minute`: high-rate routes, one entry per principal, route, status and minute. */
export type AuditPolicy = 'entry' | 'minute';

/** The caller must hold one of these canonical scopes. Without arguments any authenticated caller is admitted. */
export const Allow = (...anyOf: string[]): MethodDecorator & ClassDecorator =>
  applyDecorators(
    SetMetadata(ACCESS, { public: false, anyOf } satisfies Access),
    ApiExtension('x-required-scopes', anyOf),
    ApiBearerAuth('bearer'),
    ApiSecurity('apiKey'),
  );

/** Which GET requests of a route may carry a stream ticket instead of a credential. */
export interface TicketRule {
  /** Tells whether a request asks for an event stream. When not given, every request does. */
  when?: (query: Record<string, unknown>) => boolean;
  /** The route honours the channels that a ticket is limited to. Without it such tickets are refused. */
  limited?: boolean;
}

/**
 * Lets `?ticket=`, from `POST /stream/tickets`, open the stream of this GET route once, because the EventSource of a browser cannot
 * send headers. The query of the route is a {@link TicketQueryDto}.
 */
export const TakesTicket = (rule: TicketRule = {}): MethodDecorator =>
  applyDecorators(SetMetadata(TICKET, rule), ApiSecurity('ticket'));

/** No credential is needed. The server does not start when a route has neither `@Allow` nor `@Public`. */
export const Public = (): MethodDecorator & ClassDecorator => SetMetadata(ACCESS, { public: true } satisfies Access);

/** How requests of this route enter the audit trail; `entry` when not given. */
export const Audit = (policy: AuditPolicy): MethodDecorator & ClassDecorator => SetMetadata(AUDIT, policy);

/** The route takes many items at once. Its body may have 10 MB even when the setting allows other routes less. */
export const LargeBody = (): MethodDecorator => SetMetadata(LARGE_BODY, true);

/** The body of this route may have at most this many bytes, even when the setting allows other routes more. */
export const MaxBody = (bytes: number): MethodDecorator => SetMetadata(MAX_BODY, bytes);

/** The body is read into `request.rawBody` only. The route verifies a signature over it and then calls `parseJson`. */
export const UnparsedBody = (): MethodDecorator => SetMetadata(UNPARSED_BODY, true);

/**
 * The route will be removed. Sends `Deprecation` (RFC 9745) and `Sunset` (RFC 8594), which are dates such as `2026-01-31` at least
 * six months apart.
 */
export const Deprecated = (dates: { since: string; sunset: string }): MethodDecorator =>
  applyDecorators(
    Header('Deprecation', `@${Date.parse(dates.since) / 1000}`),
    Header('Sunset', new Date(dates.sunset).toUTCString()),
    ApiExtension('x-sunset', dates.sunset),
  );

type Targets = Parameters<Reflector['getAllAndOverride']>[1];

export function accessOf(reflector: Reflector, targets: Targets): Access | undefined {
  return reflector.getAllAndOverride<Access | undefined>(ACCESS, targets);
}

export function auditPolicyOf(reflector: Reflector, targets: Targets): AuditPolicy {
  return reflector.getAllAndOverride<AuditPolicy | undefined>(AUDIT, targets) ?? 'entry';
}

export function takesLargeBody(reflector: Reflector, targets: Targets): boolean {
  return reflector.getAllAndOverride<boolean | undefined>(LARGE_BODY, targets) ?? false;
}

/** The body limit in bytes that the route declares; undefined: the limit of the setting applies. */
export function maxBodyOf(reflector: Reflector, targets: Targets): number | undefined {
  return reflector.getAllAndOverride<number | undefined>(MAX_BODY, targets);
}

export function leavesBodyUnparsed(reflector: Reflector, targets: Targets): boolean {
  return reflector.getAllAndOverride<boolean | undefined>(UNPARSED_BODY, targets) ?? false;
}

/** The rule of a route that accepts a ticket instead of a credential; undefined for other routes. */
export function ticketRuleOf(reflector: Reflector, targets: Targets): TicketRule | undefined {
  return reflector.getAllAndOverride<TicketRule | undefined>(TICKET, targets);
}

/** The authenticated caller of a route with `@Allow`. */
export const CurrentActor = createParamDecorator((_data: unknown, _context: ExecutionContext): Actor => {
  const actor = currentContext()?.actor;
  if (!actor) throw AppError.unauthenticated('TOKEN_INVALID', 'Authentication is required');
  return actor;
});
