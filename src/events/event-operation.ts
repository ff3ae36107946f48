import type { BackgroundTask } from '../platform/background/index.js';
import { AppError } from '../platform/errors/index.js';
import type { EventOperationDto } from './replay.dto.js';

export function toOperationDto(task: BackgroundTask<object>): EventOperationDto {
  const { status, progress, error } = task;
  return {
    status,
    progress,
    current_step: task.currentStep,
    created_by: task.createdBy,
    created_at: task.createdAt.toISOString(),
    started_at: task.startedAt?.toISOString() ?? null,
    completed_at: task.finishedAt?.toISOString() ?? null,
    error,
    total: numberIn(task, 'total'),
  };
}

/** A number that the task reports; null when it has not come to it. */
export function numberIn(task: BackgroundTask<object>, name: string): number | null {
  const value = task.details[name];
  return typeof value === 'number' ? value : null;
}

/** @throws AppError `validation` for what looks like a time and is none */
export function instantOf(field: string, text: string): Date {
  const time = new Date(text);
  if (!Number.isNaN(time.getTime())) return time;
  throw AppError.validation({ field, issue: 'must be a time such as 2025-01-15T10:30:00Z' });
}
