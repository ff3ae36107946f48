/**
 * Runs the whole test suite and closes with the plain line `N passed, N failed, N skipped`.
 *
 * In CI (`CI` set) a test that failed has been run a second time at once (see vitest.config.ts); the few files in which something
 * still failed are then run again with nothing beside them, on a database server of their own. A machine that stalled for seconds is told from
 * a defect that way; every test that needed it is named at the end. Many failed files are no stall: they are not run again.
 */
import console from 'node:console';
import path from 'node:path';
import process from 'node:process';
import { startVitest } from 'vitest/node';

const MOST_FILES_AGAIN = 10;

const first = await run([]);
const suspects = failedFiles(first);
let total = first;
if (process.env['CI'] && suspects.length > 0 && suspects.length <= MOST_FILES_AGAIN) {
  console.log(`\nRun again alone, because something failed in them:\n${suspects.join('\n')}\n`);
  const again = await run(suspects, { fileParallelism: false });
  total = { results: [...first.results.filter(({ file }) => !suspects.includes(file)), ...again.results] };
  for (const { file, test, state, error } of first.results) {
    if (state === 'failed') console.log(`\nFailed beside others: ${file}${test ? ` > ${test}` : ''}\n${error}`);
  }
}
for (const { file, test, error } of total.results.filter(({ flaky }) => flaky)) {
  console.log(`\nPassed only on a second run: ${file} > ${test}\n${error}`);
}
const count = (/** @type {Result['state']} */ state) => total.results.filter((result) => result.state === state).length;
console.log(`\n${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`);
// Whatever a test left open must not keep the run from ending.
process.exit(count('failed') > 0 || count('passed') === 0 ? 1 : 0);

/**
 * @typedef {{ file: string, test?: string, state: 'passed' | 'failed' | 'skipped', flaky?: boolean, error: string }} Result
 * One test, or one error outside of any (loading, hooks, an unhandled rejection; `file` is empty when no file is to blame).
 */

/**
 * @param {string[]} files none for all
 * @param {import('vitest/node').CliOptions} options
 * @returns {Promise<{ results: Result[] }>}
 */
async function run(files, options = {}) {
  const vitest = await startVitest('test', files, { ...options, watch: false });
  /** @type {Result[]} */
  const results = [];
  for (const module of vitest.state.getTestModules()) {
    const file = module.relativeModuleId;
    const tests = [...module.children.allTests()];
    for (const test of tests) {
      const { state, errors } = test.result();
      results.push({
        file,
        test: test.fullName,
        state: state === 'pending' ? 'skipped' : state,
        flaky: test.diagnostic()?.flaky && state === 'passed',
        error: describe(errors?.[0]),
      });
    }
    if (module.state() === 'failed' && !tests.some((test) => test.result().state === 'failed')) {
      const suites = [...module.children.allSuites()].flatMap((suite) => suite.errors());
      results.push({ file, state: 'failed', error: describe([...module.errors(), ...suites][0]) });
    }
  }
  for (const error of vitest.state.getUnhandledErrors()) {
    const { VITEST_TEST_PATH: test } = /** @type {{ VITEST_TEST_PATH?: string }} */ (error);
    results.push({ file: test ? path.relative(process.cwd(), test) : '', state: 'failed', error: describe(error) });
  }
  await vitest.close();
  return { results };
}

/** Files to run again; all errors must be of some file, or a second run could not tell. */
function failedFiles(/** @type {{ results: Result[] }} */ { results }) {
  const files = results.filter(({ state }) => state === 'failed').map(({ file }) => file);
  return files.includes('') ? [] : [...new Set(files)];
}

function describe(/** @type {any} */ error) {
  return error?.stack ?? error?.message ?? String(error ?? '');
}
