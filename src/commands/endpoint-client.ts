import { createHmac } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AgentDirectory } from '../agents/index.js';
import { EgressClient, EgressError } from '../platform/egress/index.js';
import { isAppError } from '../platform/errors/index.js';
import { parseJsonBody } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { AgentCredentials } from '../security/index.js';
import { type Dispatchable, envelopeOf } from './command-envelope.js';
import type { Command } from './command.entity.js';

/**
 * How a run ended. `unsent`: the target provably did not get the command, it can be tried again. `unknown`: it may have run.
 */
export type RunOutcome =
  | { kind: 'completed'; message: string; data: unknown; output: string }
  | { kind: 'failed'; code: string; message: string; data: unknown; output: string }
  | { kind: 'unsent'; message: string }
  | { kind: 'unknown'; message: string };

/** The answer becomes part of the command's row: deep enough for any report, far from what breaks a parser. */
const ANSWER_LIMITS = { maxDepth: 64, maxKeys: 10_000, maxValues: 100_000, maxKeyLength: 256 };

/** Failures of the outgoing client that come before the first byte of the request. */
const BEFORE_SENDING = new Set(['DNS', 'CONNECT', 'TLS', 'CIRCUIT_OPEN', 'BUSY']);

/** Hands commands to agents that have an HTTP endpoint instead of a link. */
@Injectable()
export class EndpointClient {
  constructor(
    private readonly directory: AgentDirectory,
    private readonly credentials: AgentCredentials,
    private readonly egress: EgressClient,
  ) {}

  /**
   * POSTs the envelope once, signed with the SHA-256 of the agent's API key, which is never sent to an endpoint. The endpoint answers 2xx with `{success, message, output, data}`, all optional.
   * @param leftMs milliseconds until the command's deadline
   */
  async run(
    command: Omit<Dispatchable, 'agentId'> & Pick<Command, 'agentId'>,
    signal: AbortSignal,
    leftMs: number,
  ): Promise<RunOutcome> {
    const { agentId } = command;
    if (agentId === null) return refused('AGENT_GONE', 'The command has no agent');
    let endpoint: string | null;
    try {
      ({ endpoint } = await this.directory.get(agentId));
    } catch (error) {
      if (isAppError(error)) return refused('AGENT_GONE', 'The agent is not registered any more');
      throw error;
    }
    if (endpoint === null) return refused('AGENT_GONE', 'The agent has no endpoint any more');
    const [key] = await this.credentials.keyHashes(agentId);
    if (!key) return refused('AGENT_GONE', 'The agent has no valid key');
    const envelope = envelopeOf({ ...command, agentId });
    const signature = createHmac('sha256', key).update(envelope).digest('hex');
    try {
      const { status, body, truncated } = await this.egress.request({
        method: 'POST',
        url: endpoint,
        headers: {
          'content-type': 'application/json',
          'x-nexus-command': publicId('cmd', command.id),
          'x-nexus-signature': `sha256=${signature}`,
        },
        body: envelope,
        timeoutMs: Math.max(1, leftMs),
        signal,
      });
      return outcomeOf(status, body, truncated);
    } catch (error) {
      if (!(error instanceof EgressError)) return { kind: 'unknown', message: 'The request was interrupted' };
      if (error.code === 'BLOCKED') {
        return refused('EGRESS_BLOCKED', `The endpoint may not be reached: ${error.message}`);
      }
      return { kind: BEFORE_SENDING.has(error.code) ? 'unsent' : 'unknown', message: error.message };
    }
  }
}

function refused(code: string, message: string): RunOutcome {
  return { kind: 'failed', code, message, data: null, output: '' };
}

function outcomeOf(status: number, body: Buffer, truncated: boolean): RunOutcome {
  const text = body.toString('utf8');
  if (status < 200 || status > 299) {
    return { ...base(`The endpoint answered ${status}`), kind: 'failed', code: 'ENDPOINT_REFUSED', output: text };
  }
  const parsed = parseJsonBody(text || '{}', ANSWER_LIMITS);
  if (truncated || 'problem' in parsed) {
    const issue = truncated || !('problem' in parsed) ? `is longer than ${body.length} bytes` : parsed.problem.reason;
    const message = `The endpoint answered ${status}, but its answer ${issue}`;
    return { ...base(message), kind: 'failed', code: 'ENDPOINT_ANSWER_INVALID', output: text };
  }
  const { value } = parsed;
  const answer = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const success = answer.success !== false;
  const result = {
    message: typeof answer.message === 'string' ? answer.message : `The endpoint answered ${status}`,
    data: answer.data ?? null,
    output: typeof answer.output === 'string' ? answer.output : '',
  };
  return success ? { kind: 'completed', ...result } : { kind: 'failed', code: 'COMMAND_FAILED', ...result };
}

function base(message: string): { message: string; data: null } {
  return { message, data: null };
}
