/**
 * For things that modules declare and that need one handler each.
 * @throws Error naming what is declared twice, or has no handler
 */
export function assertHandled(noun: string, names: readonly string[], handled: { has(name: string): boolean }): void {
  const twice = names.find((name, n) => names.indexOf(name) !== n);
  if (twice !== undefined) throw new Error(`${noun} ${twice} is declared twice`);
  const missing = names.filter((name) => !handled.has(name));
  if (missing.length > 0) throw new Error(`${noun}s without a handler: ${missing.join(', ')}`);
}
