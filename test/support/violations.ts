/** How answers differ from the API document since the last check; see documented-answers.ts. */
export const violations: string[] = [];

/** @throws Error that names them, once. */
export function throwViolations(): void {
  const found = [...new Set(violations.splice(0))];
  if (found.length > 0) throw new Error(`Answers are not as the OpenAPI document says:\n${found.join('\n')}`);
}
