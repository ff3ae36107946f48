import { randomBytes } from 'node:crypto';
import { hash, parseOptions, verify } from '@node-rs/argon2';
import { Semaphore } from '../concurrency/index.js';
import { AppError } from '../errors/index.js';

export interface PasswordHasherOptions {
  /** KiB of memory, passes and lanes of one hash. */
  memoryCost?: number;
  timeCost?: number;
  parallelism?: number;
  /** Hashes computed at once; each takes `memoryCost` and a thread. */
  maxConcurrent?: number;
  /** Callers that may wait for a turn, and for how long, before they are answered 503. */
  maxQueue?: number;
  maxWaitMs?: number;
}

const ARGON2ID = 2;
const HASH_BYTES = 32;
const SALT_BYTES = 16;

/**
 * Argon2id password hashes (PHC strings). Passwords are normalised to NFKC, so the same text typed on two keyboards matches.
 * Load is bounded: beyond the queue or the wait every method rejects with a retryable 503.
 */
export class PasswordHasher {
  private readonly cost: { memoryCost: number; timeCost: number; parallelism: number };
  private readonly turns: Semaphore;
  /** What strangers pass first: it leaves a turn to everybody else. */
  private readonly strangerTurns: Semaphore;
  /** A well-formed hash with no known password: checking against it costs what a real check costs. */
  private readonly decoy: string;

  constructor(o: PasswordHasherOptions = {}) {
    this.cost = { memoryCost: o.memoryCost ?? 65_536, timeCost: o.timeCost ?? 3, parallelism: o.parallelism ?? 1 };
    const slots = o.maxConcurrent ?? 2;
    const queue = { maxQueue: o.maxQueue ?? 20, maxWaitMs: o.maxWaitMs ?? 3000, refusal: busy };
    this.turns = new Semaphore(slots, queue);
    this.strangerTurns = new Semaphore(Math.max(1, slots - 1), queue);
    const { memoryCost, timeCost, parallelism } = this.cost;
    const [salt, digest] = [SALT_BYTES, HASH_BYTES].map((n) => randomBytes(n).toString('base64').replace(/=+$/, ''));
    this.decoy = `$argon2id$v=19$m=${memoryCost},t=${timeCost},p=${parallelism}$${salt}$${digest}`;
  }

  async hash(password: string): Promise<string> {
    return this.turns.run(() => hash(password.normalize('NFKC'), { ...this.cost, outputLen: HASH_BYTES }));
  }

  /**
   * Whether the password belongs to the hash. `null` (no such user) does the same work and answers false, so that response
   * times do not tell which users exist. A `stranger`, who may be guessing, keeps nobody else waiting.
   */
  async verify(stored: string | null, password: string, { stranger = false } = {}): Promise<boolean> {
    const work = (): Promise<boolean> => this.turns.run(() => verify(stored ?? this.decoy, password.normalize('NFKC')));
    const matches = await (stranger ? this.strangerTurns.run(work) : work());
    return matches && stored !== null;
  }

  /** True when the hash was made with other parameters than today's: hash again at the next login. */
  needsRehash(stored: string): boolean {
    try {
      const { algorithm, memoryCost, timeCost, parallelism } = parseOptions(stored);
      const now = this.cost;
      const same = memoryCost === now.memoryCost && timeCost === now.timeCost && parallelism === now.parallelism;
      return !same || (algorithm as number) !== ARGON2ID;
    } catch {
      return true;
    }
  }
}

function busy(): AppError {
  return AppError.unavailable('Too many sign-ins at once, try again shortly', 2);
}
