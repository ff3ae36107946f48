export { AppError, isAppError } from './app-error.js';
export type { ErrorKind, FieldIssue } from './app-error.js';
