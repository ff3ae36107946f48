import { defineConfig } from 'vitest/config';

export default defineConfig({
  oxc: { decorator: { legacy: true, emitDecoratorMetadata: true } },
  test: {
    environment: 'node',
    include: ['src/**/*.spec.ts', 'packages/*/src/**/*.spec.ts', 'test/**/*.{spec,e2e-spec}.ts'],
    setupFiles: ['test/support/after-each.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    maxWorkers: 2,
    hookTimeout: 90_000,
    testTimeout: 60_000,
    // On a shared machine one stall must not hide what the rest says; scripts/test.js names who needed it.
    retry: process.env['CI'] ? 1 : 0,
  },
});
