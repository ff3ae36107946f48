import { Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { Semaphore } from '../platform/concurrency/index.js';
import { Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { Bus } from '../platform/realtime/index.js';
import type { JudgedEvent } from './judged-event.js';
import { CompiledRule } from './compiled-rule.js';
import { AlertRule } from './alert-rule.entity.js';
import { stateOfRules } from './alerts.queries.js';

/** Bus channel: some rule is not what it was. */
const CHANGED = 'alerts.rules';
/** A message of the bus can be lost. */
const CHECK_MS = 5000;
const NONE: readonly CompiledRule[] = [];

/** The enabled rules, compiled and indexed by what they look at, in the memory of every process. */
@Injectable()
export class RuleSet implements OnApplicationBootstrap, OnModuleDestroy {
  private rules = new Map<string, CompiledRule>();
  private byMetric = new Map<string, CompiledRule[]>();
  private byType = new Map<string, CompiledRule[]>();
  private forAll: CompiledRule[] = [];
  private readonly mutex = new Semaphore(1);
  private loaded = '';
  private timer: NodeJS.Timeout | undefined;
  private readonly unsubscribe: () => void;

  constructor(
    private readonly db: Database,
    private readonly logger: Logger,
    private readonly bus: Bus,
  ) {
    this.unsubscribe = bus.subscribe(CHANGED, () => void this.reload().catch(() => undefined));
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.reload();
    this.timer = setInterval(() => {
      this.reload().catch((error: unknown) => this.logger.warn({ err: String(error) }, 'Alert rules not loaded'));
    }, CHECK_MS).unref();
  }

  onModuleDestroy(): void {
    clearInterval(this.timer);
    this.unsubscribe();
  }

  get isEmpty(): boolean {
    return this.rules.size === 0;
  }

  get(id: string): CompiledRule | undefined {
    return this.rules.get(id);
  }

  absences(): CompiledRule[] {
    return [...this.rules.values()].filter((rule) => rule.isAbsence);
  }

  all(): CompiledRule[] {
    return [...this.rules.values()];
  }

  /** Rules of the event's metric, of its type, and of any: those that may be about it. */
  candidates(row: JudgedEvent): readonly CompiledRule[] {
    const ofMetric = (row.metric && this.byMetric.get(row.metric.name)) ?? NONE;
    if (this.byType.size === 0 && this.forAll.length === 0) return ofMetric;
    return [...ofMetric, ...(this.byType.get(row.eventType) ?? NONE), ...this.forAll];
  }

  /** To be called after the commit of a change: this process knows it when the promise resolves, others soon. */
  async changed(): Promise<void> {
    this.bus.publish(CHANGED, {});
    await this.reload();
  }

  /** One after the other, so that the newest wins. */
  reload(): Promise<void> {
    return this.mutex.run(() => this.load());
  }

  private async load(): Promise<void> {
    const state = await stateOfRules(this.db.manager);
    if (state === this.loaded) return;
    const order = { createdAt: 'ASC', id: 'ASC' } as const;
    const rows = await this.db.repository(AlertRule).find({ where: { enabled: true }, order });
    const rules = new Map<string, CompiledRule>();
    for (const row of rows) {
      const known = this.rules.get(row.id);
      const compiled = known?.rule.version === row.version ? known : this.compile(row);
      if (compiled) rules.set(row.id, compiled);
    }
    this.index(rules);
    this.loaded = state;
  }

  private compile(rule: AlertRule): CompiledRule | undefined {
    try {
      return new CompiledRule(rule);
    } catch (error) {
      this.logger.error({ rule: rule.id, err: String(error) }, 'An alert rule cannot be used');
      return undefined;
    }
  }

  private index(rules: Map<string, CompiledRule>): void {
    this.rules = rules;
    this.byMetric = new Map();
    this.byType = new Map();
    this.forAll = [];
    const add = (index: Map<string, CompiledRule[]>, key: string, rule: CompiledRule): void => {
      const list = index.get(key);
      if (list) list.push(rule);
      else index.set(key, [rule]);
    };
    for (const rule of rules.values()) {
      const { metric_name: metric, event_type: type } = rule.rule.definition;
      if (metric !== null) add(this.byMetric, metric, rule);
      else if (type !== null) add(this.byType, type, rule);
      else this.forAll.push(rule);
    }
  }
}
