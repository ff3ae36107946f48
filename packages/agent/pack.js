/**
 * Packs the compiled agent with everything it needs at runtime into `dist/nexus-agent.tgz`, in the form of `npm pack`. Installing
 * the archive asks no registry for anything, so that nobody who takes a name there gets to run on the hosts of agents.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

const FOLDER = import.meta.dirname;
const ARCHIVE = path.join(FOLDER, 'dist/nexus-agent.tgz');

const {
  devDependencies: _,
  scripts: __,
  ...manifest
} = JSON.parse(readFileSync(path.join(FOLDER, 'package.json'), 'utf8'));
const { resolve } = createRequire(import.meta.url);
const bundled = Object.keys(manifest.dependencies);
const stage = mkdtempSync(path.join(os.tmpdir(), 'nexus-agent-pack-'));
try {
  const copy = (from, to, filter) => cpSync(from, path.join(stage, to), { recursive: true, filter });
  for (const name of ['LICENSE', 'README.md', 'bin']) copy(path.join(FOLDER, name), name);
  copy(path.join(FOLDER, 'dist'), 'dist', (file) => !/\.(tgz|map|d\.ts|tsbuildinfo)$/.test(file));
  for (const name of bundled) copy(path.dirname(resolve(`${name}/package.json`)), `node_modules/${name}`);
  writeFileSync(
    path.join(stage, 'package.json'),
    JSON.stringify({ ...manifest, bundleDependencies: bundled }, null, 2),
  );
  const out = path.join(stage, 'out');
  mkdirSync(out);
  const packed = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', out], {
    cwd: stage,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { filename, bundled: inside } = JSON.parse(packed)[0];
  if (bundled.some((name) => !inside.includes(name))) {
    throw new Error(`npm pack left out some of ${bundled.join(', ')}`);
  }
  cpSync(path.join(out, filename), `${ARCHIVE}.new`);
  renameSync(`${ARCHIVE}.new`, ARCHIVE);
} finally {
  rmSync(stage, { recursive: true, force: true });
}
