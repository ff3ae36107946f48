/** Nexus cannot start here. The message is one clear sentence for the person at the console; a stack would not help. */
export class StartError extends Error {}

/** Another live process holds the data folder. */
export class HomeInUseError extends StartError {}

/** The system's short name of a failed call (`EACCES`, `ENOSPC`), or the message of any other error. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}
