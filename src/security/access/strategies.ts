import type { Request } from 'express';
import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { Strategy } from 'passport';
import type { Actor } from '../../platform/context/index.js';
import type { Authenticator } from './authenticator.js';
import type { PresentedCredential } from './presented-credential.js';

/**
 * What the guard hands to a strategy. Passport keeps its strategies per process, so they hold nothing themselves: two
 * applications in one process do not mix.
 */
export interface StrategyOptions {
  authenticator: Authenticator;
  credential: PresentedCredential;
}

type Verify = (
  options: StrategyOptions,
  done: (error: Error | null, actor: Actor | null | undefined) => void,
) => void | Promise<void>;

/** Takes credentials of one kind and leaves a request with another one to the next strategy. */
class CredentialScheme extends Strategy {
  constructor(
    private readonly kind: PresentedCredential['kind'],
    private readonly verify: Verify,
  ) {
    super();
  }

  override authenticate(_request: Request, options: StrategyOptions): void {
    if (options.credential.kind !== this.kind) {
      this.fail();
      return;
    }
    void this.verify(options, (error, actor) => (actor ? this.success(actor) : this.error(error)));
  }
}

export const STRATEGIES = ['nexus-access-token', 'nexus-key'];

@Injectable()
export class AccessTokenStrategy extends PassportStrategy(CredentialScheme, STRATEGIES[0]) {
  constructor() {
    super('jwt');
  }

  validate({ authenticator, credential }: StrategyOptions): Actor | Promise<Actor> {
    return authenticator.identify(credential);
  }
}

@Injectable()
export class KeyStrategy extends PassportStrategy(CredentialScheme, STRATEGIES[1]) {
  constructor() {
    super('key');
  }

  validate({ authenticator, credential }: StrategyOptions): Actor | Promise<Actor> {
    return authenticator.identify(credential);
  }
}
