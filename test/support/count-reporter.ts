import type { Reporter, TestModule } from 'vitest/node';

/**
 * Ends a run with the plain line `N passed, N failed, N skipped`, before it the tests that passed only when run again.
 * A file that failed outside of its tests (loading, hooks) counts as a failure.
 */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>): void {
    let passed = 0;
    let failed = errors.length;
    let skipped = 0;
    for (const file of modules) {
      for (const test of file.children.allTests()) {
        const { state, errors } = test.result();
        if (test.diagnostic()?.flaky) {
          console.log(`\nPassed only on a second run: ${file.relativeModuleId} > ${test.fullName}`);
          console.log(errors?.[0]?.stack ?? errors?.[0]?.message ?? '');
        }
        if (state === 'passed') passed++;
        else if (state === 'failed') failed++;
        else skipped++;
      }
      const blamed = [...file.children.allTests()].some((test) => test.result().state === 'failed');
      if (file.state() === 'failed' && !blamed) failed++;
    }
    console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
  }
}
