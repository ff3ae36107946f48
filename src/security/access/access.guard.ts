import { type CanActivate, type ExecutionContext, Injectable, RequestMethod } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';
import { type Actor, currentContext } from '../../platform/context/index.js';
import { AppError } from '../../platform/errors/index.js';
import { accessOf, auditPolicyOf, authorize } from '../../platform/http/index.js';
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

  override getAuthenticateOptions(execution: ExecutionContext): StrategyOptions & { session: false } {
    const { headers } = execution.switchToHttp().getRequest<Request>();
    return { session: false, authenticator: this.authenticator, credential: presentedCredential(headers) };
  }
}

function successStatus(handler: ReturnType<ExecutionContext['getHandler']>): number {
  const declared = Reflect.getMetadata(HTTP_CODE, handler) as number | undefined;
  const method = Reflect.getMetadata('method', handler) as RequestMethod | undefined;
  return declared ?? (method === RequestMethod.POST ? 201 : 200);
}
