import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import type { Actor } from '../context/index.js';
import { AppError } from '../errors/index.js';

/** Counts the open streams of each credential in this process, over all transports. */
@Injectable()
export class StreamPlaces {
  private readonly counts = new Map<string, number>();

  constructor(private readonly settings: Settings) {}

  /**
   * Takes a place until the function that it returns is called.
   * @throws AppError `rate_limited` when the credential holds as many streams as it may
   */
  take(actor: Actor): () => void {
    const owner = actor.credentialId ?? actor.id;
    const count = this.counts.get(owner) ?? 0;
    const max = this.settings.streamConnections;
    if (count >= max) throw new AppError('rate_limited', `At most ${max} streams per credential`, { retryAfter: 5 });
    this.counts.set(owner, count + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const rest = (this.counts.get(owner) ?? 1) - 1;
      if (rest > 0) this.counts.set(owner, rest);
      else this.counts.delete(owner);
    };
  }
}
