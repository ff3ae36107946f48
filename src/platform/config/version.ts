import { existsSync, readFileSync } from 'node:fs';

/** The nearest package file above: sources and compiled files lie at different depths. */
function packageFile(from = new URL('./package.json', import.meta.url)): URL {
  return existsSync(from) ? from : packageFile(new URL('../package.json', from));
}

/** Version of this server. */
export const VERSION = (JSON.parse(readFileSync(packageFile(), 'utf8')) as { version: string }).version;
