import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database, insertIfNew } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventBus } from '../platform/events/index.js';
import { type HeaderSink, parseJson, RateLimiter } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { Metrics } from '../platform/observability/index.js';
import { Hook } from './hook.entity.js';
import { HookReceipt } from './hook-receipt.entity.js';
import { HookRefusals } from './hook-refusals.js';
import { HookSecrets } from './hook-secrets.js';
import { SIGNATURE_HEADERS, verifyCall } from './hook-signature.js';
import type { ReceivedCallDto } from './hooks.dto.js';
import { countAccepted } from './hooks.queries.js';

export interface HookCall {
  name: string;
  headers: IncomingHttpHeaders;
  /** Exact bytes, which the signature is over. */
  raw: Buffer | undefined;
}

const KIND = /^[A-Za-z0-9._:-]{1,100}$/;

/** Calls of other programs: a signed body becomes an event. */
@Injectable()
export class HookCalls {
  private readonly calls;

  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly secrets: HookSecrets,
    private readonly refusals: HookRefusals,
    private readonly limiter: RateLimiter,
    metrics: Metrics,
  ) {
    this.calls = metrics.counter('nexus_hook_calls_total', 'Calls of inbound hooks', ['result']);
  }

  /**
   * Accepted means stored. A message that was accepted before is answered with the event it became.
   * @throws AppError `unauthenticated`, the same for a wrong signature, an unknown name and a disabled hook; `validation` without a JSON
   * body; `rate_limited`
   */
  async receive(call: HookCall, to: HeaderSink): Promise<ReceivedCallDto> {
    const raw = call.raw ?? Buffer.alloc(0);
    const hook = await this.find(call.name);
    const secrets = hook ? this.secrets.open(hook) : this.secrets.openNobodys();
    const now = Math.floor(Date.now() / 1000);
    const verified = verifyCall(hook?.scheme ?? 'standard', secrets, call.headers, raw, now);
    if (!hook || !verified) {
      this.calls.inc({ result: 'refused' });
      if (hook) this.refusals.count(hook.id);
      await this.countFor(null, to);
      throw refused();
    }
    await this.countFor(hook, to);
    if (!call.raw) {
      throw AppError.validation({
        field: '',
        issue: 'a JSON body is required',
        expected: 'a JSON body',
        location: 'body',
      });
    }
    // Parsed only now: who cannot sign costs no more than the check of a signature.
    const received = await this.store(hook, call.headers, parseJson(raw), verified.messageId);
    this.calls.inc({ result: received.duplicate ? 'duplicate' : 'accepted' });
    return received;
  }

  private find(name: string): Promise<Hook | null> {
    return this.db.repository(Hook).findOneBy({ name: name.replaceAll('\0', '').slice(0, 64), enabled: true });
  }

  /** Those who cannot sign use up what their address may do, never what the hook may. */
  private async countFor(hook: Hook | null, to: HeaderSink): Promise<void> {
    const context = currentContext();
    if (!context) return;
    if (hook) {
      context.actor = actorOf(hook);
      context.resourceId = context.actor.id;
    }
    await this.limiter.admit(context, hook ? 'hooks' : 'anonymous', to);
  }

  private store(
    hook: Hook,
    headers: IncomingHttpHeaders,
    body: unknown,
    messageId: string | null,
  ): Promise<ReceivedCallDto> {
    return this.db.transaction(async (tx) => {
      if (messageId !== null) {
        // Waits for another call with the same message to commit.
        const fresh = await insertIfNew(tx, HookReceipt, { hookId: hook.id, messageId });
        if (!fresh) {
          const known = await tx.findOneByOrFail(HookReceipt, { hookId: hook.id, messageId });
          return answer(known.eventId!, known.eventType!, true);
        }
      }
      const event = await this.events.emit(tx, {
        type: hook.eventType,
        data: isObject(body) ? body : { body },
        source: `hook:${hook.name}`,
        metadata: { hook_id: publicId('hook', hook.id), message_id: messageId, kind: kindOf(headers) },
        priority: 'normal',
        correlationId: null,
        expiresAt: null,
      });
      if (messageId !== null) {
        const became = { eventId: event.id, eventType: hook.eventType };
        await tx.update(HookReceipt, { hookId: hook.id, messageId }, became);
      }
      // Last, since calls of one hook wait here for each other.
      if (!(await countAccepted(tx, hook.id))) throw refused();
      return answer(event.id, hook.eventType, false);
    });
  }
}

function answer(eventId: string, event_type: string, duplicate: boolean): ReceivedCallDto {
  return { status: 'accepted', event_id: publicId('evt', eventId), event_type, duplicate };
}

function refused(): AppError {
  return AppError.unauthenticated('SIGNATURE_INVALID', 'There is no such hook, or the signature is not valid', {
    details: { accepted_headers: SIGNATURE_HEADERS },
    headers: { 'WWW-Authenticate': 'Signature realm="hooks"' },
  });
}

function actorOf({ id, name }: Hook): Actor {
  return { id: publicId('hook', id), type: 'hook', name, credentialId: null, roles: [], scopes: new Set() };
}

function isObject(body: unknown): body is Record<string, unknown> {
  return typeof body === 'object' && body !== null && !Array.isArray(body);
}

/** What the sender calls this kind of message, where it says so beside the body; not signed. */
function kindOf(headers: IncomingHttpHeaders): string | null {
  const kind = headers['x-github-event'] ?? headers['x-nexus-event'];
  return typeof kind === 'string' && KIND.test(kind) ? kind : null;
}
