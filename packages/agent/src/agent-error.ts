/** A reason for which the agent cannot start or go on, as one sentence for the person who started it. */
export class AgentError extends Error {
  override readonly name = 'AgentError';
}

/** The system's code of an error (`ENOENT`), or its text. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}
