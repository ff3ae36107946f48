export type EgressErrorCode =
  /** The address rules forbid the target. */
  | 'BLOCKED'
  /** The name does not resolve. */
  | 'DNS'
  | 'CONNECT'
  | 'TLS'
  /** The whole exchange did not end in time. */
  | 'TIMEOUT'
  /** The response head is larger than allowed (a large body is cut, not refused). */
  | 'TOO_LARGE'
  /** What was sent or what came back is no proper HTTP. */
  | 'PROTOCOL'
  /** The host failed so often that it is left alone for a while. */
  | 'CIRCUIT_OPEN'
  /** Too many requests to this host at once. */
  | 'BUSY';

/** Why a request got no response. The message may be shown to the owner of the URL: it names no resolved address. */
export class EgressError extends Error {
  constructor(
    readonly code: EgressErrorCode,
    message: string,
    cause?: unknown,
  ) {
    super(message, { cause });
    this.name = 'EgressError';
  }
}
