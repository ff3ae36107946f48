import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { migrations } from '../../migrations/index.js';
import { createTestDatabase } from '../support/test-database.js';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** What the scripts `migration:show`, `migration:run`, `migration:revert` and `migration:generate` call after the build. */
async function typeorm(databaseUrl: string, ...args: string[]): Promise<string> {
  const cli = [path.join(ROOT, 'node_modules/typeorm/cli.js'), ...args, '-d', 'dist/src/data-source.js'];
  const env = { ...process.env, DATABASE_URL: databaseUrl };
  const { stdout } = await promisify(execFile)(process.execPath, cli, { cwd: ROOT, env });
  return stdout;
}

it('The scripts of package.json run, show and revert the migrations, and find nothing to generate', async () => {
  const [newest] = migrations.slice(-1).map(({ name }) => name);
  const database = await createTestDatabase('template1');
  try {
    expect(await typeorm(database.url, 'migration:show')).toContain(`[ ] ${newest}`);
    expect(await typeorm(database.url, 'migration:run')).toContain(`${newest} has been executed successfully`);
    expect(await typeorm(database.url, 'migration:show')).toMatch(new RegExp(`\\[X\\] \\d+ ${newest}`));
    const generated = typeorm(database.url, 'migration:generate', 'migrations/unwanted');
    await expect(generated).rejects.toMatchObject({ stdout: expect.stringMatching(/No changes/) as string });
    expect(await typeorm(database.url, 'migration:revert')).toContain(`${newest} has been reverted successfully`);
  } finally {
    await database.drop();
  }
});
