import { createHmac, randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { IsNull, Not } from 'typeorm';
import { MasterKeys, newSigningSecret, standardSignatures } from '../platform/crypto/index.js';
import { Database, findForUpdate } from '../platform/database/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { publicId } from '../platform/ids/index.js';
import { HandleJob } from '../platform/jobs/index.js';
import { CommandQueries } from './command-queries.service.js';
import { toCommandDetailDto } from './command-view.js';
import { CommandWriter } from './command-writer.js';
import { Command } from './command.entity.js';
import { SendCallback } from './commands.jobs.js';

const MAX_TRIES = 5;
const FIRST_PAUSE_SECONDS = 2;
const MAX_PAUSE_SECONDS = 3600;
/** A try that has not reported back after this was cut off with its process. */
const LEASE_SECONDS = 60;

/** Tells the creator's callback URL how a command ended; at least once, always with the same `webhook-id`. */
@Injectable()
export class CommandCallbacks {
  constructor(
    private readonly db: Database,
    private readonly queries: CommandQueries,
    private readonly writer: CommandWriter,
    private readonly egress: EgressClient,
    private readonly keys: MasterKeys,
  ) {}

  /**
   * The secret that signs the callbacks of one principal's commands, in the form of Standard Webhooks. Derived, never
   * stored. `X-Nexus-Signature` is keyed with this text, `webhook-signature` with the bytes it encodes.
   */
  secretOf(principal: string): string {
    return this.secretsOf(principal)[0];
  }

  @HandleJob(SendCallback)
  async send({ commandId, attempt }: { commandId: string; attempt: number }): Promise<void> {
    const claimed = await this.claim(commandId, attempt);
    if (!claimed) return;
    const { url, body, createdBy } = claimed;
    const tries = attempt + 1;
    const sent = await this.post(url, body, publicId('cmd', commandId), createdBy, tries);
    const over = sent.done || tries >= MAX_TRIES;
    const detail = over && !sent.done ? `${sent.detail}; given up after ${tries} tries` : sent.detail;
    const dueAt = over ? null : new Date(Date.now() + pauseMs(tries, sent.retryAfterSeconds));
    const status = sent.done ? 'callback_sent' : over ? 'callback_given_up' : 'callback_failed';
    await this.db.transaction((tx) =>
      this.writer.change(tx, [commandId], (transition) => {
        if (transition.row.callbackAttempts !== tries) return;
        transition.row.callbackDueAt = dueAt;
        transition.note(status, detail);
      }),
    );
  }

  /** Makes this try ours and fixes the bytes that every try sends. */
  private claim(id: string, attempt: number): Promise<{ url: string; body: string; createdBy: string } | null> {
    return this.db.transaction(async (tx) => {
      const due = { id, callbackAttempts: attempt, callbackDueAt: Not(IsNull()) };
      const command = await findForUpdate(tx, Command, due);
      if (!command?.callbackUrl) return null;
      const body = command.callbackBody ?? (await this.bodyOf(command));
      await tx.update(
        Command,
        { id },
        {
          callbackAttempts: attempt + 1,
          callbackBody: body,
          callbackDueAt: new Date(Date.now() + LEASE_SECONDS * 1000),
        },
      );
      return { url: command.callbackUrl, body, createdBy: command.createdBy };
    });
  }

  private async bodyOf(command: Command): Promise<string> {
    const shown = toCommandDetailDto(command, await this.queries.outputStart(command.id));
    const { timeline: _, callback_url: __, ...content } = shown;
    return JSON.stringify({
      event: `command.${command.status}`,
      delivery_id: publicId('dlv', randomUUID()),
      ...content,
    });
  }

  /** One for each master key: receivers know the one of the key that was first when they asked. */
  private secretsOf(principal: string): string[] {
    return this.keys.derived(`command-callback:${principal}`).map(({ key }) => newSigningSecret(key));
  }

  private async post(
    url: string,
    body: string,
    id: string,
    createdBy: string,
    tries: number,
  ): Promise<{ done: boolean; detail: string; retryAfterSeconds?: number }> {
    const secrets = this.secretsOf(createdBy);
    const [current, previous] = secrets;
    const { event, delivery_id } = JSON.parse(body) as { event: string; delivery_id: string };
    const timestamp = String(Math.floor(Date.now() / 1000));
    try {
      const { status, headers } = await this.egress.request({
        method: 'POST',
        url,
        headers: {
          'content-type': 'application/json',
          'x-nexus-event': event,
          'x-nexus-delivery': `${delivery_id}.${tries}`,
          'x-nexus-signature': nexusSignature(body, current),
          ...(previous === undefined ? {} : { 'x-nexus-signature-previous': nexusSignature(body, previous) }),
          'webhook-id': id,
          'webhook-timestamp': timestamp,
          'webhook-signature': standardSignatures({ id, timestamp, body }, secrets).join(' '),
        },
        body,
      });
      const retryAfter = Number(headers['retry-after']);
      return {
        done: status >= 200 && status < 300,
        detail: `The callback URL answered ${status}`,
        ...(Number.isFinite(retryAfter) && retryAfter > 0 ? { retryAfterSeconds: retryAfter } : {}),
      };
    } catch (error) {
      return { done: false, detail: error instanceof Error ? error.message : 'The callback URL was not reached' };
    }
  }
}

function nexusSignature(body: string, secret: string): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}

/** Milliseconds until the next try: three times longer each time, spread, never sooner than the receiver asked for. */
function pauseMs(tries: number, retryAfterSeconds = 0): number {
  const pause = FIRST_PAUSE_SECONDS * 3 ** (tries - 1) * (0.75 + Math.random() / 2);
  return 1000 * Math.min(MAX_PAUSE_SECONDS, Math.max(pause, retryAfterSeconds));
}
