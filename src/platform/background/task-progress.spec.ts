import { describe, expect, it } from 'vitest';
import { beginStep, initialSteps, overall, percent } from './task-progress.js';

describe('the progress of a task', () => {
  it('is the mean of its steps', () => {
    const steps = beginStep(initialSteps(['a', 'b', 'c']), 'b');
    expect(steps.map((step) => step.status)).toEqual(['completed', 'running', 'pending']);
    steps[1].progress = 50;
    expect(overall(steps)).toBe(50);
    expect(overall([])).toBe(0);
  });

  it('is kept by a step that is begun again, and taken back from those after it', () => {
    const steps = beginStep(initialSteps(['a', 'b']), 'a');
    steps[0].progress = 30;
    expect(beginStep(steps, 'a')[0]).toEqual({ name: 'a', status: 'running', progress: 30 });
    const later = beginStep(steps, 'b');
    expect(beginStep(later, 'a').map((step) => step.progress)).toEqual([0, 0]);
    expect(() => beginStep(steps, 'd')).toThrow('no step d');
  });

  it('stays between 0 and 100', () => {
    expect([percent(1, 3), percent(-1, 3), percent(4, 3), percent(0, 0)]).toEqual([33.3, 0, 100, 100]);
  });
});
