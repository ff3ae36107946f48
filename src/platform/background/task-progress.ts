import type { TaskStep } from './background-task.js';

export function initialSteps(names: readonly string[]): TaskStep[] {
  return names.map((name) => ({ name, status: 'pending', progress: 0 }));
}

/** Begins the step: those before it are complete, those after it wait. @throws Error when there is no such step */
export function beginStep(steps: readonly TaskStep[], name: string): TaskStep[] {
  const place = steps.findIndex((step) => step.name === name);
  if (place < 0) throw new Error(`The task has no step ${name}`);
  return steps.map((step, n) => {
    if (n < place) return { ...step, status: 'completed', progress: 100 };
    if (n > place) return { ...step, status: 'pending', progress: 0 };
    // Begun before by a run that was cut off: what it had done is not undone.
    return { ...step, status: 'running', progress: step.status === 'running' ? step.progress : 0 };
  });
}

/** 0 to 100; nothing to do is done. */
export function percent(done: number, total: number): number {
  if (total <= 0) return 100;
  return Math.round(Math.min(1, Math.max(0, done / total)) * 1000) / 10;
}

/** Progress of the whole, 0 to 100: the mean of its steps. */
export function overall(steps: readonly TaskStep[]): number {
  if (steps.length === 0) return 0;
  return Math.round((steps.reduce((sum, { progress }) => sum + progress, 0) / steps.length) * 10) / 10;
}
