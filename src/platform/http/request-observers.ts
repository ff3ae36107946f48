import { Injectable } from '@nestjs/common';
import type { RequestContext } from '../context/index.js';
import type { AuditPolicy } from './route-declarations.js';

/** A request that was answered, or whose client disconnected (`status` 499). */
export interface FinishedRequest {
  context: RequestContext;
  status: number;
  durationMs: number;
  audit: AuditPolicy;
}

/** Notifies observers (metrics, the audit trail) of every finished request. They must be fast and must not throw. */
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
