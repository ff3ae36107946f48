import { appendMetadata } from './discover-methods.js';
import type { JobContext, JobDefinition } from './job-definition.js';

export const HANDLE_JOB = Symbol('handle-job');

type Handler<Payload> = (payload: Payload, context: JobContext) => Promise<unknown>;

/**
 * Marks the one method that runs a job. A job may run twice: its effect is guarded by a unique key or a state
 * compare-and-set, never by the hope that it runs once.
 */
export function HandleJob<Payload>(definition: JobDefinition<Payload>) {
  return <M extends Handler<Payload>>(
    target: object,
    name: string | symbol,
    descriptor: TypedPropertyDescriptor<M>,
  ): void => {
    appendMetadata(HANDLE_JOB, definition)(target, name, descriptor as TypedPropertyDescriptor<unknown>);
  };
}
