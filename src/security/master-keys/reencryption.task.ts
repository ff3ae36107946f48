import { defineBackgroundTask } from '../../platform/background/index.js';

export interface ReencryptionInput {
  /** The master key that everything is to be encrypted with. */
  keyId: string;
}

export interface ReencryptionState {
  reencrypted: number;
}

/** Encrypts all stored secrets with the first master key. */
export const ReencryptSecrets = defineBackgroundTask<ReencryptionInput, ReencryptionState>({
  kind: 'system.reencrypt',
  queue: 'maintenance',
  steps: ['reencrypt', 'forget'],
  maxOpen: 1,
});
