import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { AgentError } from './agent-error.js';
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

/**
 * The public key that checks commands.
 * @param text 32 bytes in base64url
 * @throws AgentError when the text is no such key
 */
export function parseSigningKey(text: string): KeyObject {
  try {
    return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: text }, format: 'jwk' });
  } catch {
    throw new AgentError('The signing key of Nexus is not an Ed25519 public key in base64url');
  }
}

/**
 * The content of a command, if Nexus signed it for this agent.
 * @param key undefined while no key of Nexus is known: then nothing is taken for signed
 * @throws Refusal
 */
export function openEnvelope(frame: CommandFrame, key: KeyObject | undefined, agentId: string): CommandEnvelope {
  const envelope = parseEnvelope(frame.envelope);
  if (!envelope || !isSigned(frame, key) || !isComplete(envelope)) {
    throw new Refusal('BAD_SIGNATURE', 'The command is not signed with the key that this agent trusts');
  }
  if (envelope.agent_id !== agentId) throw new Refusal('WRONG_AGENT', 'The command is for another agent');
  return envelope;
}

/** True when exactly this text was signed by the owner of the private key. */
function isSigned({ envelope, signature }: CommandFrame, key: KeyObject | undefined): boolean {
  return key !== undefined && verify(null, Buffer.from(envelope), key, Buffer.from(signature, 'hex'));
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
