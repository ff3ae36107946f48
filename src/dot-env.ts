import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseEnv } from 'node:util';
import { ConfigError } from './platform/config/index.js';

/** Adds the variables of the file `.env`; what the environment itself says goes before it. */
export function readDotEnv(): void {
  try {
    const given = parseEnv(readFileSync('.env', 'utf8'));
    for (const [name, value] of Object.entries(given)) process.env[name] ??= value;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') {
      throw new ConfigError(`The file ${path.resolve('.env')} cannot be read: ${code ?? message}.`);
    }
  }
}
