import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
const read = (file: string): string => readFileSync(new URL(file, ROOT), 'utf8');

/** Whoever registers a free name in the public registry gets to run on every host where somebody types it. */
describe('the package of the agent', () => {
  it('has a scoped name and is never published', () => {
    const manifest = JSON.parse(read('packages/agent/package.json')) as { name: string; private: boolean; bin: object };
    expect(manifest).toMatchObject({
      name: '@nexus/agent',
      private: true,
      bin: { 'nexus-agent': expect.anything() as unknown },
    });
  });

  it('is named to npx by its file only, in every document and in what the server prints', () => {
    const files = [
      'README.md',
      'packages/agent/README.md',
      'docs/openapi.json',
      'src/agents/agent-package.ts',
      'packages/agent/src/cli.ts',
      ...readdirSync(new URL('docs/', ROOT), { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.md'))
        .map((file) => `docs/${file}`),
    ];
    const byName = /\b(npx|npm (exec|x|i|install))( -\S+)* (nexus-agent|@nexus\/agent)\b/;
    expect(files.filter((file) => byName.test(read(file)))).toEqual([]);
  });
});
