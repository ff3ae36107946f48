import { randomBytes } from 'node:crypto';
import type { CommandEnvelope } from '@nexus/agent/protocol';
import { publicId } from '../platform/ids/index.js';
import type { Command } from './command.entity.js';

/** What has to be known of a command to hand it to an agent. */
export interface Dispatchable extends Pick<
  Command,
  'id' | 'commandType' | 'parameters' | 'timeoutSeconds' | 'priority' | 'createdAt'
> {
  agentId: string;
}

/**
 * The text of a command that is signed for its agent. `timeout_seconds` is what is left of the command's time, so that an
 * agent that gets it late does not outlive it.
 */
export function envelopeOf(command: Dispatchable): string {
  const expires = command.createdAt.getTime() + command.timeoutSeconds * 1000;
  const content: CommandEnvelope = {
    command_id: command.id,
    agent_id: publicId('agent', command.agentId),
    command_type: command.commandType,
    parameters: command.parameters,
    timeout_seconds: Math.max(1, Math.min(command.timeoutSeconds, Math.ceil((expires - Date.now()) / 1000))),
    expires_at: new Date(expires).toISOString(),
    issued_at: new Date().toISOString(),
    nonce: randomBytes(16).toString('base64url'),
    priority: command.priority,
    created_at: command.createdAt.toISOString(),
  };
  return JSON.stringify(content);
}
