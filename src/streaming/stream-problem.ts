export type ProblemCode =
  | 'INVALID_CHANNEL'
  | 'INSUFFICIENT_SCOPE'
  | 'VALIDATION_ERROR'
  | 'ALREADY_SUBSCRIBED'
  | 'UNKNOWN_SUBSCRIPTION'
  | 'SUBSCRIPTION_DISABLED'
  | 'LIMIT_EXCEEDED';

/** Why a client's wish cannot be met; told to it, and the connection stays (row STR-07). */
export class StreamProblem extends Error {
  constructor(
    readonly code: ProblemCode,
    message: string,
  ) {
    super(message);
  }
}
