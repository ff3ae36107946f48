import { applyDecorators, SetMetadata } from '@nestjs/common';
import type { Reflector } from '@nestjs/core';
import { ApiExtension } from '@nestjs/swagger';
import type { ThrottlerOptions } from '@nestjs/throttler';
import type { Settings } from '../config/index.js';
import type { Actor } from '../context/index.js';
import { networkOf } from './client-network.js';

/** Limits of the kinds of routes: requests per window of seconds. Each has its setting. */
const RATE_LIMITS = {
  /** Everything a principal does besides what comes in at a high rate, on top of the limit of its kind. */
  overall: { limit: 1000, window: 60, burst: 100 },
  telemetry: { limit: 1000, window: 60 },
  telemetry_batch: { limit: 100, window: 60 },
  commands: { limit: 100, window: 60 },
  /** Emitting events. */
  events: { limit: 1000, window: 60 },
  /** Calls of one inbound hook with a right signature. */
  hooks: { limit: 600, window: 60 },
  /** Asking again and again how far something has come. */
  polling: { limit: 600, window: 60 },
  /** Whatever an agent asks for that has no limit of its kind. */
  agents: { limit: 1000, window: 60 },
  webhooks: { limit: 1000, window: 3600 },
  /** Login and refresh, per address. */
  auth: { limit: 10, window: 600 },
  /** Every other route, per principal. */
  default: { limit: 1000, window: 3600 },
  /** Requests without a credential, per address. */
  anonymous: { limit: 100, window: 3600 },
  /** Refused credentials per address; past it no credential from there is looked at, so that guessing is bounded. */
  refused: { limit: 100, window: 300 },
};

export interface Rate {
  limit: number;
  /** Seconds. */
  window: number;
  /** So many more at once; the bucket then fills steadily instead of anew with each window. */
  burst?: number;
}

export type RateLayer = keyof typeof RATE_LIMITS;

/** A limit in force, as @nestjs/throttler names it. */
export interface RateThrottler extends ThrottlerOptions {
  name: RateLayer;
  limit: number;
  /** Milliseconds. */
  ttl: number;
  burst?: number;
}

/** The limits in force: those that no setting switches off. */
export function throttlersOf(settings: Settings): RateThrottler[] {
  if (!settings.rateLimits) return [];
  return (Object.keys(RATE_LIMITS) as RateLayer[]).flatMap((name) => {
    const text = settings.rateLimitOf(name);
    const rate: Rate | null = text === undefined ? RATE_LIMITS[name] : parseRate(text);
    return rate ? [{ name, limit: rate.limit, ttl: rate.window * 1000, burst: rate.burst }] : [];
  });
}
/** Kind of a route. */
export type RateCategory = Exclude<RateLayer, 'overall'>;

/** Kinds that have a high limit of their own for a steady stream, and strangers, whom `overall` does not know. */
const ALONE = new Set<RateCategory>([
  'telemetry',
  'telemetry_batch',
  'events',
  'hooks',
  'polling',
  'agents',
  'auth',
  'anonymous',
  'refused',
]);

/** The kind that a request is counted as: an agent, which asks all the time, has its own in place of those for people. */
export function categoryFor(declared: RateCategory | undefined, actor: Actor | undefined): RateCategory {
  if (actor?.type === 'agent' && (declared === undefined || declared === 'polling')) return 'agents';
  return declared ?? (actor ? 'default' : 'anonymous');
}

/** The limits that a request of this kind has to stay within, all of them. */
export function layersOf(category: RateCategory): RateLayer[] {
  return ALONE.has(category) ? [category] : [category, 'overall'];
}

const CATEGORY = 'nexus:rate-limit';

/** Counts requests of a route or controller in this category instead of `default`; `none` counts nothing (probes). */
export const RateLimit = (category: RateCategory | 'none'): MethodDecorator & ClassDecorator =>
  applyDecorators(SetMetadata(CATEGORY, category), ApiExtension('x-rate-limit', category));

export function rateCategoryOf(
  reflector: Reflector,
  targets: Parameters<Reflector['getAllAndOverride']>[1],
): RateCategory | 'none' | undefined {
  return reflector.getAllAndOverride<RateCategory | 'none' | undefined>(CATEGORY, targets);
}

/** The setting's text `requests/seconds` or `requests/seconds+burst`; null for `off`, which is no limit at all. */
export function parseRate(text: string): Rate | null {
  if (text === 'off') return null;
  const [limit, window, burst] = text.split(/[/+]/).map(Number);
  return { limit, window, ...(burst === undefined ? {} : { burst }) };
}

/** Who is counted: the user, else the agent or key, else the network of the address. */
export function rateKey(category: RateLayer, actor: Actor | undefined, ip: string | undefined): string {
  if (category === 'auth' || category === 'refused' || !actor) return `${category}:ip:${networkOf(ip)}`;
  return `${category}:${actor.userId ?? actor.agentId ?? actor.credentialId ?? actor.id}`;
}

/** `60` to `1 minute`, as the error body says it. */
export function windowInWords(seconds: number): string {
  for (const [unit, size] of [
    ['hour', 3600],
    ['minute', 60],
  ] as const) {
    if (seconds % size === 0) return `${seconds / size} ${unit}${seconds === size ? '' : 's'}`;
  }
  return `${seconds} second${seconds === 1 ? '' : 's'}`;
}
