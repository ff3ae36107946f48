import type { RequestContext } from '../platform/context/index.js';
import { networkOf } from '../platform/http/index.js';
import type { AuditMinute } from './audit-minute.entity.js';
import { cut } from './audit-text.js';

/** Counts held while the database is away. */
const MAX_COUNTS = 20_000;
/** Counts of strangers in one minute that name their network; those beyond them are counted without it. */
const MAX_STRANGER_NETWORKS = 500;
/** Whoever has one IPv4 address easily has its neighbours. */
const IPV4_BITS = 24;

/**
 * Counts requests by the minute, for which writing down each would let callers fill the database: high-rate routes by
 * principal, and strangers by network. The number of different counts is bounded as well.
 */
export class AuditMinutes {
  private counts = new Map<string, AuditMinute>();
  private strangers = new Set<string>();
  private strangersMinute = 0;

  get size(): number {
    return this.counts.size;
  }

  /** @returns false when there is no room for it */
  add(context: RequestContext, statusCode: number): boolean {
    const minute = new Date(Math.floor(Date.now() / 60_000) * 60_000);
    const action = `${context.method} ${context.route ?? 'unmatched'}`;
    const { actor, ip: ipAddress = null, userAgent = null } = context;
    const base = { minute, action, statusCode, count: 1 };
    if (actor) {
      const [actorId, credentialId] = [actor.id, actor.credentialId ?? ''];
      return this.count({ ...base, actorId, credentialId, network: '', ipAddress, userAgent: cut(userAgent) });
    }
    const stranger = { ...base, actorId: 'anonymous', credentialId: '' };
    const named = { ...stranger, network: networkOf(ipAddress ?? undefined, IPV4_BITS) };
    if (this.mayName(minute, keyOf(named))) {
      return this.count({ ...named, ipAddress: named.network, userAgent: cut(userAgent) });
    }
    return this.count({ ...stranger, network: '', ipAddress: null, userAgent: null });
  }

  /** Hands over all counts, in one order for all processes: two that write the same ones must not wait in a circle. */
  take(): AuditMinute[] {
    const taken = [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
    this.counts = new Map();
    return taken;
  }

  /** @returns how many of the requests counted meanwhile have lost their room to the older ones given back */
  putBack(older: readonly AuditMinute[]): number {
    const newer = this.take();
    for (const count of older) this.count(count);
    return newer.reduce((lost, count) => (this.count(count) ? lost : lost + count.count), 0);
  }

  private count(one: AuditMinute): boolean {
    const key = keyOf(one);
    const known = this.counts.get(key);
    if (known) known.count += one.count;
    else if (this.counts.size < MAX_COUNTS) this.counts.set(key, one);
    else return false;
    return true;
  }

  private mayName(minute: Date, key: string): boolean {
    if (minute.getTime() !== this.strangersMinute) {
      this.strangersMinute = minute.getTime();
      this.strangers = new Set();
    }
    if (this.strangers.has(key)) return true;
    // Half of the room is for principals, however long the database is away.
    if (this.strangers.size >= MAX_STRANGER_NETWORKS || this.counts.size >= MAX_COUNTS / 2) return false;
    this.strangers.add(key);
    return true;
  }
}

function keyOf({ minute, actorId, credentialId, action, statusCode, network }: AuditMinute | StrangerKey): string {
  return `${minute.getTime()} ${actorId} ${credentialId} ${action} ${statusCode} ${network}`;
}

type StrangerKey = Omit<AuditMinute, 'ipAddress' | 'userAgent'>;
