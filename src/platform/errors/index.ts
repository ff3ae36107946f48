export { AppError, isAppError, MAX_ISSUES } from './app-error.js';
export type { ErrorKind, FieldIssue } from './app-error.js';
