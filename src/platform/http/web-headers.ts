import compression from 'compression';
import cors from 'cors';
import type { RequestHandler } from 'express';
import helmet from 'helmet';
import type { Settings } from '../config/index.js';

/** Security headers of an API that shows no pages; a route that does sets its own policy. */
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

/** Lets pages of the listed origins call the API from a browser; none are listed by default. */
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

/** gzip and br for answers worth it; never for event streams, which must not wait in a compressor. */
export function compressAnswers(): RequestHandler {
  return compression({
    threshold: 1024,
    filter: (request, response) =>
      !String(response.getHeader('Content-Type') ?? '').startsWith('text/event-stream') &&
      compression.filter(request, response),
  });
}
