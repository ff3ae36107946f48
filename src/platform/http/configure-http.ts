import http from 'node:http';
import type { Socket } from 'node:net';
import type { NestApplicationOptions } from '@nestjs/common';
import { ExpressAdapter, type NestExpressApplication } from '@nestjs/platform-express';
import type { RequestHandler } from 'express';
import { Settings } from '../config/index.js';
import { ApiDocument } from './api-document.js';
import { trustProxies } from './client-ip.js';
import { shareConnections } from './connection-share.js';
import { answerClientError, Entrance } from './entrance.js';
import { ErrorFilter } from './error-filter.js';
import { tagAnswers } from './etag.js';
import { InFlight } from './in-flight.js';
import { KnownRoutes } from './known-routes.js';
import { RateLimiter } from './rate-limiter.js';
import { checkRequest, renderMiddlewareError } from './request-pipeline.js';
import { compressAnswers, crossOrigin, securityHeaders } from './web-headers.js';

/** How long the server waits for slow clients, in milliseconds. */
export interface ServerTimeouts {
  headers: number;
  request: number;
  checkEvery: number;
  /** A client that takes nothing of its answer for this long is disconnected. */
  stall: number;
}

const MAX_CONNECTIONS = 10_000;
const TIMEOUTS: ServerTimeouts = { headers: 10_000, request: 30_000, checkEvery: 5_000, stall: 30_000 };

/** Builds the HTTP server: it disconnects slow clients, and asks the lean routes before Express. */
class NexusHttpAdapter extends ExpressAdapter {
  /** Gets every request first. It is set when the pipeline is configured. */
  entrance: http.RequestListener | undefined;

  constructor(private readonly timeouts: ServerTimeouts) {
    super();
  }

  override initHttpServer(_options: NestApplicationOptions): void {
    const express = this.getInstance<http.RequestListener>();
    const server = http.createServer(
      {
        headersTimeout: this.timeouts.headers,
        requestTimeout: this.timeouts.request,
        connectionsCheckingInterval: this.timeouts.checkEvery,
        keepAliveTimeout: 5_000,
        maxHeaderSize: 16 * 1024,
        // Otherwise Node would drop a second Authorization header, and it could not be refused.
        joinDuplicateHeaders: true,
      },
      (request, response) => (this.entrance ?? express)(request, response),
    );
    server.maxConnections = MAX_CONNECTIONS;
    shareConnections(server, MAX_CONNECTIONS / 4);
    // Only a connection with unsent bytes has a slow reader. Idle ones are closed by the keep-alive timeout.
    server.setTimeout(this.timeouts.stall, (socket: Socket) => {
      if (socket.writableLength > 0) socket.destroy();
    });
    server.on('clientError', answerClientError);
    this.setHttpServer(server);
  }

  /** Nest would leave paths outside the API prefix to Express, which answers with an HTML page. */
  override setNotFoundHandler(handler: RequestHandler): void {
    this.use(handler);
  }
}

export function createHttpAdapter(timeouts: Partial<ServerTimeouts> = {}): ExpressAdapter {
  return new NexusHttpAdapter({ ...TIMEOUTS, ...timeouts });
}

/** Routes at the root of the server. All others are under the API prefix. */
const AT_ROOT = [
  '/',
  'health',
  'health/detailed',
  'healthz',
  'readyz',
  'startup',
  'metrics',
  'docs',
  'docs/:file',
  'redoc',
  'redoc/:file',
  'openapi.json',
  'openapi.yaml',
  'agent/nexus-agent.tgz',
];

/** Sets up the global pipeline of every request, in this order. Nest's guards, interceptors and pipes come after it. */
export function configureHttp(app: NestExpressApplication): void {
  const settings = app.get(Settings);
  const adapter = app.getHttpAdapter() as unknown as NexusHttpAdapter;
  adapter.entrance = app.get(Entrance).listener(app.getHttpAdapter().getInstance() as http.RequestListener);
  trustProxies(app.getHttpServer(), settings.trustedProxies);
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.setGlobalPrefix(settings.apiPrefix, { exclude: AT_ROOT });
  app.get(ApiDocument).attach(app);
  app.get(KnownRoutes).attach(app);
  app.use(securityHeaders());
  if (settings.allowedOrigins.length > 0) app.use(crossOrigin(settings));
  if (settings.responseCompression) app.use(compressAnswers());
  app.use(tagAnswers());
  app.use(checkRequest(settings, app.get(RateLimiter)));
  app.use(renderMiddlewareError(app.get(ErrorFilter)));
}

/** When the server stops, requests that are not answered after this long are cut. */
const DRAIN_MS = 15_000;

/**
 * Stops accepting connections, ends event streams and waits for the current requests. Call it once readiness reports
 * `draining`. Afterwards the application can be closed without cutting a request.
 */
export async function drainHttp(app: NestExpressApplication, graceMs = DRAIN_MS): Promise<void> {
  const server = app.getHttpServer();
  server.close();
  server.closeIdleConnections();
  await app.get(InFlight).drain(graceMs, () => server.closeIdleConnections());
}
