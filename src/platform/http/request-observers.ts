import { Injectable } from '@nestjs/common';
import type { RequestContext } from '../context/index.js';
import type { AuditPolicy } from './route-declarations.js';

/** A request that has been answered, or whose client went away (`status` 499). */
export interface FinishedRequest {
  context: RequestContext;
  status: number;
  durationMs: number;
  audit: AuditPolicy;
}

/** Who wants to know of every finished request: metrics, the audit trail. Observers must be quick and must not throw. */
@Injectable()
export class RequestObservers {
  private readonly observers: ((request: FinishedRequest) => void)[] = [];

  add(observer: (request: FinishedRequest) => void): void {
    this.observers.push(observer);
  }

  finished(request: FinishedRequest): void {
    for (const observer of this.observers) observer(request);
  }
}
