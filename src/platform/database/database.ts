import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { Pool } from 'pg';
import {
  DataSource,
  type EntityManager,
  type EntityTarget,
  type ObjectLiteral,
  QueryRunnerAlreadyReleasedError,
  QueryRunnerProviderAlreadyReleasedError,
  type Repository,
} from 'typeorm';
import { Semaphore } from '../concurrency/index.js';
import { currentContext, runInContext, type RequestContext } from '../context/index.js';
import { AppError } from '../errors/index.js';
import { Logger } from '../observability/index.js';
import { databaseErrorKind } from './database-error.js';
import { guardPool } from './guard-pool.js';

/** A running transaction; repositories and raw SQL are reached through it. */
export type Tx = EntityManager;

type BeforeCommitHook = (tx: Tx, context: RequestContext) => Promise<void>;

/** Actions that wait for the commit; an entry exists as long as the transaction is open. */
type Actions = (() => void)[];

const ATTEMPTS = 3;
const MAX_PAUSE_MS = 20;

/** The one way to the application's database. */
@Injectable()
export class Database implements OnApplicationShutdown {
  private readonly beforeCommit: BeforeCommitHook[] = [];
  private readonly open = new WeakMap<Tx, Actions>();
  /** For the savepoints right below the transaction or savepoint of the work in hand. */
  private readonly mutexes = new AsyncLocalStorage<Semaphore>();

  constructor(
    private readonly source: DataSource,
    @Inject('DATABASE_URL') readonly url: string,
    @Inject('BULK_POOL') readonly bulk: Pool,
    private readonly logger: Logger,
  ) {
    for (const pool of this.pools()) guardPool(pool);
  }

  /** The open transaction of the work in hand, or else single statements on any connection. */
  get manager(): EntityManager {
    assertInTime();
    return this.ambient() ?? this.source.manager;
  }

  /** The rows of an entity, in the open transaction of the work in hand if there is one. */
  repository<E extends ObjectLiteral>(entity: EntityTarget<E>): Repository<E> {
    return this.manager.getRepository(entity);
  }

  /** One statement outside (or inside the ambient) transaction; rows as plain objects, numbers of bigint columns as text. */
  async query<Row>(sql: string, params: unknown[] = []): Promise<Row[]> {
    return this.manager.query<Row[]>(sql, params);
  }

  /** Connections of this process to the database: in use now, and how many there may be. */
  connections(): { active: number; max: number } {
    const pools = this.pools();
    return {
      active: pools.reduce((sum, pool) => sum + pool.totalCount - pool.idleCount, 0),
      max: pools.reduce((sum, pool) => sum + pool.options.max, 0),
    };
  }

  /**
   * Runs `work` in one transaction and commits it. Inside another one (a request with an `Idempotency-Key`, a service that
   * calls a service) it is a savepoint: `work` is undone alone when it fails, and committed with the outer one. A deadlock or
   * serialization failure runs the outermost `work` again, so it must do nothing outside `tx`; what must happen outside
   * goes into {@link afterCommit}.
   * @throws AppError `unavailable` when the connection is lost on the way; the outcome of a commit under way is unknown then.
   *   `timeout` when the request's time is over before the commit
   */
  async transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    assertInTime();
    const ambient = this.ambient();
    if (ambient) return this.nested(ambient, work);
    const context = currentContext() ?? { requestId: `req_work_${randomUUID()}`, startedAt: performance.now() };
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.outermost(context, work);
      } catch (error) {
        if (isConnectionLost(error)) {
          throw new AppError('unavailable', 'The connection to the database was lost', { retryAfter: 1, cause: error });
        }
        if (attempt >= ATTEMPTS || databaseErrorKind(error) !== 'transaction_conflict') throw error;
        await delay(Math.random() * MAX_PAUSE_MS * attempt);
      }
    }
  }

  private async outermost<T>(context: RequestContext, work: (tx: Tx) => Promise<T>): Promise<T> {
    const actions: Actions = [];
    // A copy: nothing of a try that fails may be left in the request's context.
    const inner: RequestContext = { ...context };
    try {
      const result = await this.source.transaction((tx) => {
        this.open.set(tx, actions);
        inner.transaction = tx;
        return runInContext(inner, () =>
          this.mutexes.run(new Semaphore(1), async () => {
            const value = await work(tx);
            for (const hook of this.beforeCommit) await hook(tx, inner);
            assertInTime();
            return value;
          }),
        );
      });
      context.resourceId = inner.resourceId;
      context.audited = inner.audited;
      context.auditedAs = inner.auditedAs;
      context.expectedStatus = inner.expectedStatus;
      for (const action of actions) this.perform(action);
      return result;
    } finally {
      if (inner.transaction) this.open.delete(inner.transaction);
    }
  }

  /** Savepoints right below the same level go one after the other: on one connection they can only nest. */
  private async nested<T>(tx: Tx, work: (tx: Tx) => Promise<T>): Promise<T> {
    const mutex = this.mutexes.getStore() ?? new Semaphore(1);
    return mutex.run(async () => {
      const actions = this.open.get(tx) ?? [];
      const before = actions.length;
      try {
        return await tx.transaction(() => this.mutexes.run(new Semaphore(1), () => work(tx)));
      } catch (error) {
        actions.length = before;
        throw error;
      }
    });
  }

  private pools(): Pool[] {
    const { master } = this.source.driver as unknown as { master: Pool };
    return [master, this.bulk];
  }

  /** The transaction of the context, unless it has ended: work that outlives it goes on by itself. */
  private ambient(): Tx | undefined {
    const tx = currentContext()?.transaction;
    return tx && this.open.has(tx) ? tx : undefined;
  }

  /** The commit stands whatever happens here. */
  private perform(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.logger.error({ err: String(error) }, 'A step after a commit failed');
    }
  }

  /**
   * Runs `action` once `tx` is committed, in the order of the calls; never when it is rolled back.
   * @throws Error when `tx` is no open transaction of {@link transaction}
   */
  afterCommit(tx: Tx, action: () => void): void {
    const actions = this.open.get(tx);
    if (!actions) throw new Error('afterCommit needs an open transaction');
    actions.push(action);
  }

  /** Adds a step that runs inside every outermost transaction, right before its commit (the audit entry). */
  onBeforeCommit(hook: BeforeCommitHook): void {
    this.beforeCommit.push(hook);
  }

  async onApplicationShutdown(): Promise<void> {
    await this.bulk.end();
  }
}

/** Nothing more is done for a request that was answered 504. */
function assertInTime(): void {
  if (currentContext()?.deadline?.passed) throw new AppError('timeout', 'The request took too long');
}

/** The driver takes a connection away from its transaction when it breaks between two statements. */
function isConnectionLost(error: unknown): boolean {
  return error instanceof QueryRunnerAlreadyReleasedError || error instanceof QueryRunnerProviderAlreadyReleasedError;
}
