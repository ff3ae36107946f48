import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Metrics } from '../observability/index.js';
import { InFlight } from './in-flight.js';
import { RequestObservers } from './request-observers.js';

/** Counts and times every request. The label `route` is the pattern of the route, so that it has few values. */
@Injectable()
export class RequestMetrics implements OnModuleInit {
  constructor(
    private readonly metrics: Metrics,
    private readonly observers: RequestObservers,
    private readonly inFlight: InFlight,
  ) {}

  onModuleInit(): void {
    const requests = this.metrics.counter('nexus_http_requests_total', 'HTTP requests answered', [
      'method',
      'route',
      'status',
    ]);
    const duration = this.metrics.histogram(
      'nexus_http_request_duration_seconds',
      'Time from the first byte of a request to the end of its answer',
      ['method', 'route'],
    );
    const { inFlight } = this;
    this.metrics.gauge('nexus_http_requests_in_flight', 'Requests in work, streams included', [], function () {
      this.set(inFlight.size);
    });
    this.observers.add(({ context, status, durationMs }) => {
      const method = METHODS.has(context.method ?? '') ? (context.method as string) : 'other';
      const route = context.route ?? 'unmatched';
      requests.inc({ method, route, status });
      duration.observe({ method, route }, durationMs / 1000);
    });
  }
}

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
