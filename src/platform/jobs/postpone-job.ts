/** Thrown by a handler that cannot run now through no fault of its own: the job is handed back and runs again after the pause, as the same try. */
export class PostponeJob extends Error {
  constructor(
    readonly pauseMs: number,
    options?: ErrorOptions,
  ) {
    super('The job is put off', options);
  }
}
