import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { CommandEnvelope, ServerFrame } from './protocol.js';

type CommandFrame = Extract<ServerFrame, { type: 'command' }>;

/** The command is not taken on; `code` and message go to Nexus. */
export class Refusal extends Error {
  constructor(
    readonly code:
      | 'TYPE_NOT_ALLOWED'
      | 'INVALID_PARAMETERS'
      | 'BAD_SIGNATURE'
      | 'EXPIRED'
      | 'WRONG_AGENT'
      | 'BUSY'
      | 'STORAGE_FAILED',
    message: string,
  ) {
    super(message);
  }
}

const ID = /^[A-Za-z0-9_-]{1,100}$/;

/** The key of signatures: SHA-256 of the agent's API key, which Nexus keeps in the place of the key itself. */
export function signingKey(apiKey: string): Buffer {
  return createHash('sha256').update(apiKey).digest();
}

/**
 * The content of a command, if it was signed for this agent with its key.
 * @throws Refusal
 */
export function openEnvelope(frame: CommandFrame, key: Buffer, agentId: string): CommandEnvelope {
  const envelope = parseEnvelope(frame.envelope);
  if (!envelope || !isSigned(frame, key) || !isComplete(envelope)) {
    throw new Refusal('BAD_SIGNATURE', 'The command is not signed with the key of this agent');
  }
  if (envelope.agent_id !== agentId) throw new Refusal('WRONG_AGENT', 'The command is for another agent');
  return envelope;
}

/** True when exactly this text was signed by who knows the key; takes the same time wherever a difference is. */
function isSigned({ envelope, signature }: CommandFrame, key: Buffer): boolean {
  const expected = createHmac('sha256', key).update(envelope).digest();
  const given = Buffer.from(signature, 'hex');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** The envelope if it is one; null when not even its command id can be told. */
export function parseEnvelope(text: string): CommandEnvelope | null {
  try {
    const envelope = JSON.parse(text) as CommandEnvelope;
    return ID.test(envelope.command_id) ? envelope : null;
  } catch {
    return null;
  }
}

/** True when the fields that the agent relies on are what they must be. */
function isComplete(envelope: CommandEnvelope): boolean {
  const { parameters, timeout_seconds } = envelope;
  return (
    typeof envelope.command_type === 'string' &&
    typeof parameters === 'object' &&
    parameters !== null &&
    !Array.isArray(parameters) &&
    timeout_seconds > 0 &&
    !Number.isNaN(Date.parse(envelope.expires_at))
  );
}
