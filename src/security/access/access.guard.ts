import type { IncomingHttpHeaders } from 'node:http';
import { type CanActivate, type ExecutionContext, Injectable, RequestMethod } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';
import { type Actor, currentContext } from '../../platform/context/index.js';
import { AppError } from '../../platform/errors/index.js';
import { accessOf, auditPolicyOf, authorize, ticketRuleOf } from '../../platform/http/index.js';
import { SocketTickets } from '../../platform/realtime/index.js';
import { Authenticator } from './authenticator.js';
import { presentedCredential } from './presented-credential.js';
import { STRATEGIES, type StrategyOptions } from './strategies.js';

const HTTP_CODE = '__httpCode__';

/** Stands before every route: finds the actor, checks the scope, and tells the request's context what it found. */
@Injectable()
export class AccessGuard extends AuthGuard(STRATEGIES) implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly authenticator: Authenticator,
    private readonly tickets: SocketTickets,
  ) {
    super({ property: 'user' });
  }

  override async canActivate(execution: ExecutionContext): Promise<boolean> {
    if (execution.getType() !== 'http') return true;
    const targets = [execution.getHandler(), execution.getClass()];
    const request = execution.switchToHttp().getRequest<Request>();
    // Set first, so that refused and public requests are audited as their route says.
    request.auditPolicy = auditPolicyOf(this.reflector, targets);
    const context = currentContext();
    if (context) {
      context.route = (request.route as { path?: string } | undefined)?.path;
      context.expectedStatus = successStatus(targets[0]);
      context.auditByMinute = request.auditPolicy === 'minute';
    }
    const access = accessOf(this.reflector, targets);
    // RouteCheck stops the boot for such a route; one that slips in later is closed.
    if (!access) throw AppError.forbidden();
    if (access.public) return true;
    try {
      await super.canActivate(execution);
    } catch (error) {
      throw this.authenticator.counted(error);
    }
    const actor = request.user as Actor;
    if (context) context.actor = actor;
    authorize(actor, access);
    return true;
  }

  override async getAuthenticateOptions(execution: ExecutionContext): Promise<StrategyOptions & { session: false }> {
    const headers = await this.credentialHeaders(execution);
    return { session: false, authenticator: this.authenticator, credential: presentedCredential(headers) };
  }

  /** The headers of the request, or those of the credential that its stream ticket stands for. */
  private async credentialHeaders(execution: ExecutionContext): Promise<IncomingHttpHeaders> {
    const { method, headers, query } = execution.switchToHttp().getRequest<Request>();
    const { ticket } = query;
    const rule = ticketRuleOf(this.reflector, [execution.getHandler()]);
    if (!rule || method !== 'GET' || typeof ticket !== 'string' || !(rule.when?.(query) ?? true)) return headers;
    if (headers.authorization !== undefined || headers['x-api-key'] !== undefined) return headers;
    const redeemed = await this.tickets.redeem(ticket);
    if (redeemed.limited && !rule.limited) throw AppError.forbidden('The ticket is for other streams');
    const context = currentContext();
    if (context) context.ticket = redeemed;
    return redeemed.headers;
  }
}

function successStatus(handler: ReturnType<ExecutionContext['getHandler']>): number {
  const declared = Reflect.getMetadata(HTTP_CODE, handler) as number | undefined;
  const method = Reflect.getMetadata('method', handler) as RequestMethod | undefined;
  return declared ?? (method === RequestMethod.POST ? 201 : 200);
}
