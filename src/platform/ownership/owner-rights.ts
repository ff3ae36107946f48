import { Injectable, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import { type Actor, runDetached } from '../context/index.js';
import { Gatekeeper, type Holder } from '../http/index.js';
import { HandleJob } from '../jobs/index.js';
import { Logger } from '../observability/index.js';
import { CheckOwnerRights } from './ownership.jobs.js';

export type Rights = Pick<Actor, 'scopes' | 'targetLabels' | 'agentLabels'>;

/** A kind of things that act without a request, each with the rights of its owner. */
export interface OwnedKind<Owned extends Holder> {
  /** Those that act at the moment and belong to this user and this credential, or to anybody when these are left out. */
  find(of: Partial<Holder>): Promise<Owned[]>;
  /** Takes away what the owner may no longer do; disables it when nothing is left. Never gives more than it had. */
  reduce(owned: Owned, rights: Rights): Promise<void>;
}

/** Whose rights something goes by that this actor sets up. */
export function ownerOf(actor: Actor): Holder {
  return { actorId: actor.id, credentialId: actor.type === 'user' ? null : actor.credentialId };
}

/**
 * What somebody has set up goes on for as long as they may have it, and does only what they may do: it is reduced as soon as rights
 * end, and checked every minute besides. Rights that come back count once it is written again.
 */
@Injectable()
export class OwnerRights implements OnModuleInit, OnModuleDestroy {
  private readonly kinds: OwnedKind<Holder>[] = [];
  private stopListening: (() => void) | undefined;

  constructor(
    private readonly gatekeeper: Gatekeeper,
    private readonly logger: Logger,
  ) {}

  contribute<Owned extends Holder>(kind: OwnedKind<Owned>): void {
    this.kinds.push(kind);
  }

  onModuleInit(): void {
    this.stopListening = this.gatekeeper.onRevoked((revoked) => {
      runDetached(() => this.check(revoked)).catch((error: unknown) => {
        this.logger.warn(
          { err: String(error) },
          'The rights of owners could not be checked; the next sweep tries again',
        );
      });
    });
  }

  onModuleDestroy(): void {
    this.stopListening?.();
  }

  @HandleJob(CheckOwnerRights)
  sweep(): Promise<void> {
    return this.check({});
  }

  private async check(of: Partial<Holder>): Promise<void> {
    const known = new Map<string, Rights>();
    const checks = this.kinds.map(async (kind) => {
      for (const owned of await kind.find(of)) {
        const { actorId, credentialId } = owned;
        const owner = `${actorId} ${credentialId}`;
        const rights = known.get(owner) ?? (await this.gatekeeper.rightsNow({ actorId, credentialId }));
        known.set(owner, rights);
        await kind.reduce(owned, rights);
      }
    });
    // One kind that fails does not keep the others from their check.
    const failed = (await Promise.allSettled(checks)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }
}
