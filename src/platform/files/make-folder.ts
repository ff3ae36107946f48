import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';

/**
 * Makes a folder and those above it. Node's own recursive `mkdirSync` never returns below a folder such as `/proc`, which
 * answers "no such file" to each attempt to make one in it.
 * @returns whether the folder is new
 * @throws the system's error when it cannot be made
 */
export function makeFolder(folder: string, mode: number): boolean {
  try {
    mkdirSync(folder, mode);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    const parent = path.dirname(folder);
    if (code !== 'ENOENT' || existsSync(parent)) throw error;
    makeFolder(parent, mode);
    return makeFolder(folder, mode);
  }
}
