import { type BeforeApplicationShutdown, Injectable, type OnModuleInit } from '@nestjs/common';
import { In, LessThan } from 'typeorm';
import { Semaphore } from '../../platform/concurrency/index.js';
import { currentContext, runDetached } from '../../platform/context/index.js';
import { hashKey, parseKey, safeEqual } from '../../platform/crypto/index.js';
import { Database, type Tx } from '../../platform/database/index.js';
import { networkOf, RequestObservers } from '../../platform/http/index.js';
import { Logger } from '../../platform/observability/index.js';
import { Credential } from '../keys/credential.entity.js';
import { credentialId } from '../keys/credentials.js';
import { SIGNAL_RULES, type SignalKind } from './alert-rules.js';
import { addSignals } from './alerts.queries.js';
import type { SecurityAlert } from './security-alert.entity.js';
import { SecurityAlerts } from './security-alerts.js';
import { SecuritySignal } from './security-signal.entity.js';

type Signal = Pick<SecuritySignal, 'kind' | 'subject' | 'count'> & Pick<SecurityAlert, 'details'>;

interface RefusedKey {
  keyId: string;
  hash: Buffer;
  ip: string | undefined;
  count: number;
}

const FLUSH_MS = 500;
/** Subjects, and keys, held between two flushes; further ones are not counted, and neither is memory. */
const MAX_HELD = 1000;
/** No rule looks back further. */
const SIGNALS_KEPT_MS = 10 * 60_000;

/**
 * Counts refusals per subject and raises alerts for bursts. Costs nothing where nothing is refused: a refusal is noted in memory, and
 * one transaction each half second adds what all processes have seen. Rows live for minutes and are bounded in number.
 */
@Injectable()
export class AlertSignals implements OnModuleInit, BeforeApplicationShutdown {
  private signals = new Map<string, Signal>();
  private keys = new Map<string, RefusedKey>();
  private timer: NodeJS.Timeout | undefined;
  private readonly mutex = new Semaphore(1);
  private stopped = false;

  constructor(
    private readonly db: Database,
    private readonly alerts: SecurityAlerts,
    private readonly observers: RequestObservers,
    private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.observers.add(({ status, context }) => {
      if (status !== 429) return;
      const subject = context.actor?.id ?? networkOf(context.ip);
      this.note('rate_limited', subject, { ip_address: context.ip ?? null, path: context.route ?? null });
    });
  }

  /** @param user public id of the account; null when there is none of that name, which is nobody's business to store */
  loginFailed(user: string | null): void {
    const ip = currentContext()?.ip;
    const details = { ip_address: ip ?? null };
    this.note('login_address', networkOf(ip), details);
    if (user !== null) this.note('login_account', user, { user_id: user, ...details });
  }

  /** A key that lets nobody in. Whose it was is looked up later, and only when its checksum is right. */
  keyRefused(text: string): void {
    const parsed = parseKey(text);
    if (!parsed) return;
    const ip = currentContext()?.ip;
    const hash = hashKey(text);
    const name = `${hash.toString('latin1')} ${networkOf(ip)}`;
    const known = this.keys.get(name);
    if (known) known.count++;
    else if (this.keys.size < MAX_HELD) this.keys.set(name, { keyId: parsed.keyId, hash, ip, count: 1 });
    this.flushSoon();
  }

  /** Ends with what was noted so far written, or kept for the next time. */
  flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    return this.mutex.run(() => this.flushOnce());
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopped = true;
    await this.flush();
  }

  private note(kind: SignalKind, subject: string, details: Signal['details'], count = 1): void {
    const name = `${kind} ${subject}`;
    const known = this.signals.get(name);
    if (known) known.count += count;
    else if (this.signals.size < MAX_HELD) this.signals.set(name, { kind, subject, count, details });
    this.flushSoon();
  }

  private flushSoon(): void {
    if (this.stopped) return;
    this.timer ??= runDetached(() => setTimeout(() => void this.flush(), FLUSH_MS).unref());
  }

  private async flushOnce(): Promise<void> {
    const { signals, keys } = this;
    if (signals.size === 0 && keys.size === 0) return;
    this.signals = new Map();
    this.keys = new Map();
    try {
      await this.db.transaction(async (tx) => {
        const all = [...signals.values(), ...(await this.signalsOf(tx, [...keys.values()]))];
        await this.alerts.takeTurns(tx);
        for (const signal of await this.bursts(tx, all)) {
          const rule = SIGNAL_RULES[signal.kind];
          const { subject, details, total: occurrences, count: fresh } = signal;
          const { type, severity, message } = rule;
          const window = { threshold: rule.threshold, window_seconds: rule.minutes * 60 };
          await this.alerts.raise(tx, {
            ...{ type, severity, message, subject, occurrences, fresh },
            details: { ...details, ...window },
          });
        }
      });
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'Refusals could not be counted and are kept for the next time');
      for (const { kind, subject, details, count } of signals.values()) this.note(kind, subject, details, count);
      for (const [name, key] of keys) if (this.keys.size < MAX_HELD) this.keys.set(name, key);
    }
  }

  private async signalsOf(tx: Tx, refused: RefusedKey[]): Promise<Signal[]> {
    if (refused.length === 0) return [];
    const rows = await tx.findBy(Credential, { keyId: In(refused.map(({ keyId }) => keyId)) });
    const byKeyId = new Map(rows.map((row) => [row.keyId, row]));
    const found = new Map<string, Signal>();
    for (const { keyId, hash, ip, count } of refused) {
      const row = byKeyId.get(keyId);
      const own = row && safeEqual(row.hash, hash) ? row : undefined;
      const [kind, subject]: [SignalKind, string] = own
        ? ['dead_key', credentialId(own)]
        : ['unknown_key', networkOf(ip)];
      const name = `${kind} ${subject}`;
      const details = { ip_address: ip ?? null, ...(own ? { key_preview: own.preview } : {}) };
      found.set(name, { kind, subject, details, count: count + (found.get(name)?.count ?? 0) });
    }
    return [...found.values()];
  }

  /** Adds to the shared counts. @returns the signals that are a burst by now, with all that belong to it */
  private async bursts(tx: Tx, signals: Signal[]): Promise<(Signal & { total: number })[]> {
    await tx.delete(SecuritySignal, { minute: LessThan(new Date(Date.now() - SIGNALS_KEPT_MS)) });
    const totals = await addSignals(
      tx,
      signals.map((signal) => ({ ...signal, minutes: SIGNAL_RULES[signal.kind].minutes })),
    );
    return signals
      .map((signal, n) => ({ ...signal, total: totals[n] }))
      .filter(({ kind, total }) => total >= SIGNAL_RULES[kind].threshold);
  }
}
