export type ProblemCode =
  | 'INVALID_CHANNEL'
  | 'INSUFFICIENT_SCOPE'
  | 'VALIDATION_ERROR'
  | 'ALREADY_SUBSCRIBED'
  | 'UNKNOWN_SUBSCRIPTION'
  | 'SUBSCRIPTION_DISABLED'
  | 'LIMIT_EXCEEDED';

/** Why a request of a client was refused. The client is told, and its connection stays open. */
export class StreamProblem extends Error {
  constructor(
    readonly code: ProblemCode,
    message: string,
  ) {
    super(message);
  }
}
