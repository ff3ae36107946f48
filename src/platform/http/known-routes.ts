import { Injectable } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { Settings } from '../config/index.js';
import { AppError } from '../errors/index.js';
import { nearestNames, nearestWord } from './nearest-word.js';

/** Longer paths, and paths of more segments, get no suggestion, so that comparing is bounded. */
const MAX_PATH = 200;
const MAX_SEGMENTS = 10;

interface Route {
  /** Without the leading slash; parameters begin with a colon. */
  segments: string[];
  /** In upper case. */
  methods: string[];
  fits: (path: string) => boolean;
}

/** A route as Express stores it. */
interface Layer {
  route?: { path: string; methods: Record<string, boolean> };
  match(path: string): unknown;
}

/** Knows all routes and sockets of the server. Finds what was probably meant by a request for a path that does not exist. */
@Injectable()
export class KnownRoutes {
  private readonly sockets = new Set<string>();
  private app: NestExpressApplication | undefined;
  private found: Route[] | undefined;

  constructor(private readonly settings: Settings) {}

  /** Called once, when the pipeline is configured. */
  attach(app: NestExpressApplication): void {
    this.app = app;
  }

  addSocket(path: string): void {
    this.sockets.add(path);
  }

  /** The error for a request without a route: 405, 426 or 404. */
  missing(method: string, path: string): AppError {
    const allowed = this.methodsOf(path);
    if (allowed.length > 0) {
      const allow = allowed.join(', ');
      return new AppError('method_not_allowed', `${path.slice(0, MAX_PATH)} does not take ${method}, only ${allow}`, {
        details: { path, allowed_methods: allowed },
        headers: { Allow: allow },
      });
    }
    if (this.sockets.has(path)) {
      return new AppError(
        'upgrade_required',
        'This is a WebSocket: open it with a WebSocket client, whose request says Upgrade: websocket',
        { details: { path, upgrade: 'websocket' }, headers: { Upgrade: 'websocket', Connection: 'Upgrade' } },
      );
    }
    const meant = this.nearest(path);
    return new AppError('not_found', `There is no such route${meant ? `; did you mean ${meant}?` : ''}`, {
      details: { path, ...(meant ? { did_you_mean: meant } : {}) },
    });
  }

  /** The error for an upgrade on a path that has no WebSocket. */
  noSocket(path: string): AppError {
    const there = nearestNames(path, this.sockets);
    return new AppError('not_found', `There is no WebSocket at this path; there are ${there}`, {
      details: { path: path.slice(0, MAX_PATH) },
    });
  }

  private methodsOf(path: string): string[] {
    const methods = new Set(this.routes().flatMap((route) => (route.fits(path) ? route.methods : [])));
    if (methods.has('GET')) methods.add('HEAD');
    // When pages of other origins are allowed, every path answers OPTIONS for them.
    if (methods.size > 0 && this.settings.allowedOrigins.length > 0) methods.add('OPTIONS');
    return [...methods].sort();
  }

  /** The path with the right prefix, or with one segment replaced by the most similar known one. */
  private nearest(path: string): string | undefined {
    const segments = path.split('/').filter(Boolean);
    if (path.length > MAX_PATH || segments.length > MAX_SEGMENTS) return undefined;
    const prefix = this.settings.apiPrefix.split('/');
    const from = segments.findIndex((segment) => !prefix.includes(segment.toLowerCase()));
    if (from === -1) return undefined;
    const rest = segments.slice(from);
    const [prefixed, bare] = [[...prefix, ...rest], rest];
    const right = [prefixed, bare].map(pathOf).find((one) => one !== path && this.exists(one));
    return right ?? this.corrected(from === 0 ? [bare, prefixed] : [prefixed]);
  }

  private corrected(paths: string[][]): string | undefined {
    for (const segments of paths) {
      for (let at = segments.length - 1; at >= 0; at--) {
        const words = this.routes()
          .filter((route) => fitsBut(at, route.segments, segments))
          .map((route) => route.segments[at]);
        const word = nearestWord(segments[at], words);
        if (word !== undefined) return pathOf(segments.with(at, word));
      }
    }
    return undefined;
  }

  private exists(path: string): boolean {
    return this.sockets.has(path) || this.routes().some(({ fits }) => fits(path));
  }

  /** Read at the first call, when all routes are registered. */
  private routes(): Route[] {
    if (this.found) return this.found;
    const express = this.app?.getHttpAdapter().getInstance() as { router: { stack: Layer[] } } | undefined;
    this.found = (express?.router.stack ?? []).flatMap((layer) => {
      if (!layer.route) return [];
      const { path, methods } = layer.route;
      return [
        {
          segments: path.replace('{/}', '').split('/').filter(Boolean),
          methods: Object.keys(methods).map((name) => name.toUpperCase()),
          fits: (asked: string) => matches(layer, asked),
        },
      ];
    });
    return this.found;
  }
}

/** False for a path that cannot be decoded. */
function matches(layer: Layer, path: string): boolean {
  try {
    return Boolean(layer.match(path));
  } catch {
    return false;
  }
}

/** True when a route differs from the segments only in the word at one place. */
function fitsBut(place: number, route: readonly string[], segments: readonly string[]): boolean {
  if (route.length !== segments.length || route[place].startsWith(':')) return false;
  return route.every((known, at) => at === place || known.startsWith(':') || known === segments[at]);
}

function pathOf(segments: readonly string[]): string {
  return `/${segments.join('/')}`;
}
