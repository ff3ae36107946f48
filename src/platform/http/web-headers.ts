import compression from 'compression';
import cors from 'cors';
import type { RequestHandler } from 'express';
import helmet from 'helmet';
import type { Settings } from '../config/index.js';

/** Security headers for an API without pages. A route that serves a page sets its own policy. */
export function securityHeaders(): RequestHandler {
  return helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] },
    },
    crossOriginResourcePolicy: { policy: 'same-site' },
    frameguard: { action: 'deny' },
    referrerPolicy: { policy: 'no-referrer' },
  }) as RequestHandler;
}

const EXPOSED = [
  'ETag',
  'Idempotency-Replayed',
  'Location',
  'Retry-After',
  'X-RateLimit-Limit',
  'X-RateLimit-Remaining',
  'X-RateLimit-Reset',
  'X-RateLimit-Window',
  'X-Request-ID',
];

/** Lets pages of the listed origins call the API from a browser. By default none are listed. */
export function crossOrigin(settings: Settings): RequestHandler {
  return cors({
    origin: settings.allowedOrigins.includes('*') ? '*' : settings.allowedOrigins,
    credentials: settings.corsCredentials,
    methods: settings.corsMethods,
    allowedHeaders: settings.corsHeaders,
    exposedHeaders: EXPOSED,
    maxAge: 600,
  }) as RequestHandler;
}

/** Compresses larger answers with gzip or br, but never event streams, whose events must not wait in the compressor. */
export function compressAnswers(): RequestHandler {
  return compression({
    threshold: 1024,
    filter: (request, response) =>
      !String(response.getHeader('Content-Type') ?? '').startsWith('text/event-stream') &&
      compression.filter(request, response),
  });
}
