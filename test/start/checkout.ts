import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ROOT } from '../support/nexus-process.js';

/** Where the built server and its interpreter lie for an account. */
export interface Checkout {
  root: string;
  node: string;
  remove(): void;
}

/** What the server consists of once it is built. */
const PARTS = ['dist', 'packages', 'node_modules', 'package.json', 'package-lock.json'];

/** This checkout, or a full copy of it when it, or the interpreter, lies where the account `uid` may not read. */
export function checkoutFor(uid: number | undefined): Checkout {
  const files = [...PARTS.map((part) => path.join(ROOT, part)), path.join(ROOT, 'dist/src/main.js'), process.execPath];
  const readable = spawnSync('/bin/sh', ['-c', 'for f; do test -r "$f" || exit 1; done', 'sh', ...files], {
    cwd: '/',
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  if (readable.status === 0) return { root: ROOT, node: process.execPath, remove: () => undefined };

  const root = mkdtempSync(path.join(os.tmpdir(), 'nexus-checkout-'));
  chmodSync(root, 0o755);
  run('cp', '-a', ...PARTS.map((part) => path.join(ROOT, part)), root);
  run('chmod', '-R', 'a+rX', root);
  const node = path.join(root, 'node');
  cpSync(process.execPath, node);
  return { root, node, remove: () => rmSync(root, { recursive: true, force: true }) };
}

function run(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} failed: ${stderr}`);
}
