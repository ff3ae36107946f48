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
  /** This many more are allowed at once. The bucket then refills steadily instead of at the start of each window. */
  burst?: number;
}

/** An active limit in the form of @nestjs/throttler. */
export interface RateThrottler extends ThrottlerOptions {
  name: string;
  limit: number;
  /** Milliseconds. */
  ttl: number;
  burst?: number;
}

/** The active limits: those that no setting switches off. */
export function throttlersOf(settings: LoadedSettings): RateThrottler[] {
  if (!settings.get(Settings).rateLimits) return [];
  return settings.rateLimits().flatMap(({ category, text }) => {
    const rate = parseRate(text);
    return rate ? [{ name: category, limit: rate.limit, ttl: rate.window * 1000, burst: rate.burst }] : [];
  });
}

/** A limit over all requests of a principal, in addition to the limits of their categories. Categories with `alone` are exempt. */
const OVERALL = 'overall';

/** The category that a request is counted in. Agents have their own, because they poll far more often than people. */
export function categoryFor(declared: string | undefined, actor: Actor | undefined): string {
  if (actor?.type === 'agent' && (declared === undefined || declared === 'polling')) return 'agents';
  return declared ?? (actor ? 'default' : 'anonymous');
}

/** The limits that a request of this category must stay within. @param alone the categories that are exempt from `overall` */
export function layersOf(category: string, alone: ReadonlySet<string>): string[] {
  return alone.has(category) ? [category] : [category, OVERALL];
}

const CATEGORY = 'nexus:rate-limit';

/**
 * Counts requests of a route or controller in this category, which a setting declares, instead of `default`. With `none` they are
 * not counted (probes).
 */
export const RateLimit = (category: string): MethodDecorator & ClassDecorator =>
  applyDecorators(SetMetadata(CATEGORY, category), ApiExtension('x-rate-limit', category));

export function rateCategoryOf(
  reflector: Reflector,
  targets: Parameters<Reflector['getAllAndOverride']>[1],
): string | undefined {
  return reflector.getAllAndOverride<string | undefined>(CATEGORY, targets);
}

/** Parses a setting `requests/seconds` or `requests/seconds+burst`. Null for `off`, which means no limit. */
export function parseRate(text: string): Rate | null {
  if (text === 'off') return null;
  const [limit, window, burst] = text.split(/[/+]/).map(Number);
  return { limit, window, ...(burst === undefined ? {} : { burst }) };
}

/** The key to count by: the user, else the agent or key, else the network of the address. */
export function rateKey(category: string, actor: Actor | undefined, ip: string | undefined): string {
  if (category === 'auth' || category === 'refused' || !actor) return `${category}:ip:${networkOf(ip)}`;
  return `${category}:${actor.userId ?? actor.agentId ?? actor.credentialId ?? actor.id}`;
}

/** Makes `1 minute` of `60`, for the error body. */
export function windowInWords(seconds: number): string {
  for (const [unit, size] of [
    ['hour', 3600],
    ['minute', 60],
  ] as const) {
    if (seconds % size === 0) return `${seconds / size} ${unit}${seconds === size ? '' : 's'}`;
  }
  return `${seconds} second${seconds === 1 ? '' : 's'}`;
}
