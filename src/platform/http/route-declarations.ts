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

/** The caller must hold one of these canonical scopes; without arguments any authenticated caller will do. */
export const Allow = (...anyOf: string[]): MethodDecorator & ClassDecorator =>
  applyDecorators(
    SetMetadata(ACCESS, { public: false, anyOf } satisfies Access),
    ApiExtension('x-required-scopes', anyOf),
    ApiBearerAuth('bearer'),
    ApiSecurity('apiKey'),
  );

/** Which GET requests of a route may carry a stream ticket instead of a credential. */
export interface TicketRule {
  /** Whether the request asks for an event stream; always when not given. */
  when?: (query: Record<string, unknown>) => boolean;
  /** The route keeps to the channels that a ticket may be limited to; without it such tickets are refused. */
  limited?: boolean;
}

/**
 * A browser's EventSource cannot send headers: `?ticket=`, from `POST /stream/tickets`, opens the stream of this GET route once.
 * Its query is a {@link TicketQueryDto}.
 */
export const TakesTicket = (rule: TicketRule = {}): MethodDecorator =>
  applyDecorators(SetMetadata(TICKET, rule), ApiSecurity('ticket'));

/** No credential is needed. A route with neither `@Allow` nor `@Public` stops the boot. */
export const Public = (): MethodDecorator & ClassDecorator => SetMetadata(ACCESS, { public: true } satisfies Access);

/** How requests of this route enter the audit trail; `entry` when not given. */
export const Audit = (policy: AuditPolicy): MethodDecorator & ClassDecorator => SetMetadata(AUDIT, policy);

/** The route takes many things at once: its body may have 10 MB where the setting allows others less. */
export const LargeBody = (): MethodDecorator => SetMetadata(LARGE_BODY, true);

/** The body of this route has at most so many bytes, even where the setting allows others more. */
export const MaxBody = (bytes: number): MethodDecorator => SetMetadata(MAX_BODY, bytes);

/** The body is read into `request.rawBody` only: the route verifies a signature over it and calls `parseJson` after that. */
export const UnparsedBody = (): MethodDecorator => SetMetadata(UNPARSED_BODY, true);

/**
 * The route goes away: sends `Deprecation` (RFC 9745) and `Sunset` (RFC 8594), at least six months apart .
 * Both are dates such as `2026-01-31`.
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

/** Most bytes of a body that the route itself declares; undefined: what the setting says. */
export function maxBodyOf(reflector: Reflector, targets: Targets): number | undefined {
  return reflector.getAllAndOverride<number | undefined>(MAX_BODY, targets);
}

export function leavesBodyUnparsed(reflector: Reflector, targets: Targets): boolean {
  return reflector.getAllAndOverride<boolean | undefined>(UNPARSED_BODY, targets) ?? false;
}

/** Set where a ticket may stand in for a credential. */
export function ticketRuleOf(reflector: Reflector, targets: Targets): TicketRule | undefined {
  return reflector.getAllAndOverride<TicketRule | undefined>(TICKET, targets);
}

/** The authenticated caller of a route with `@Allow`. */
export const CurrentActor = createParamDecorator((_data: unknown, _context: ExecutionContext): Actor => {
  const actor = currentContext()?.actor;
  if (!actor) throw AppError.unauthenticated('TOKEN_INVALID', 'Authentication is required');
  return actor;
});
