const MAX_TEXT = 300;

/** Text of a caller as an entry holds it. */
export function cut(text: string | null): string | null {
  return text === null ? null : clean(text).slice(0, MAX_TEXT);
}

/** PostgreSQL text holds no NUL. */
export function clean(text: string): string {
  return text.replaceAll('\0', '');
}
