import { applyDecorators, SetMetadata } from '@nestjs/common';
import type { Reflector } from '@nestjs/core';
import { ApiExtension } from '@nestjs/swagger';
import type { ThrottlerOptions } from '@nestjs/throttler';
import { type LoadedSettings, Settings } from '../config/index.js';
import type { Actor } from '../context/index.js';
import { networkOf } from './client-network.js';

export interface Rate {
  limit: number;
  /** Seconds. */
  window: number;
  /** So many more at once; the bucket then fills steadily instead of anew with each window. */
  burst?: number;
}

/** A limit in force, as @nestjs/throttler names it. */
export interface RateThrottler extends ThrottlerOptions {
  name: string;
  limit: number;
  /** Milliseconds. */
  ttl: number;
  burst?: number;
}

/** The limits in force: those that no setting switches off. */
export function throttlersOf(settings: LoadedSettings): RateThrottler[] {
  if (!settings.get(Settings).rateLimits) return [];
  return settings.rateLimits().flatMap(({ category, text }) => {
    const rate = parseRate(text);
    return rate ? [{ name: category, limit: rate.limit, ttl: rate.window * 1000, burst: rate.burst }] : [];
  });
}

/** Everything of a principal that has no high limit of its own, on top of the limit of its category. */
const OVERALL = 'overall';

/** The category that a request is counted as: an agent, which asks all the time, has its own in place of those for people. */
export function categoryFor(declared: string | undefined, actor: Actor | undefined): string {
  if (actor?.type === 'agent' && (declared === undefined || declared === 'polling')) return 'agents';
  return declared ?? (actor ? 'default' : 'anonymous');
}

/** The limits that a request of this category has to stay within, all of them; `alone` are those that `overall` leaves out. */
export function layersOf(category: string, alone: ReadonlySet<string>): string[] {
  return alone.has(category) ? [category] : [category, OVERALL];
}

const CATEGORY = 'nexus:rate-limit';

/** Counts requests of a route or controller in this category, which a setting declares, instead of `default`; `none` counts nothing (probes). */
export const RateLimit = (category: string): MethodDecorator & ClassDecorator =>
  applyDecorators(SetMetadata(CATEGORY, category), ApiExtension('x-rate-limit', category));

export function rateCategoryOf(
  reflector: Reflector,
  targets: Parameters<Reflector['getAllAndOverride']>[1],
): string | undefined {
  return reflector.getAllAndOverride<string | undefined>(CATEGORY, targets);
}

/** The setting's text `requests/seconds` or `requests/seconds+burst`; null for `off`, which is no limit at all. */
export function parseRate(text: string): Rate | null {
  if (text === 'off') return null;
  const [limit, window, burst] = text.split(/[/+]/).map(Number);
  return { limit, window, ...(burst === undefined ? {} : { burst }) };
}

/** Who is counted: the user, else the agent or key, else the network of the address. */
export function rateKey(category: string, actor: Actor | undefined, ip: string | undefined): string {
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
