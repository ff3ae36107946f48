import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { AppError } from '../platform/errors/index.js';

/** Where every server serves its own agent. */
export const AGENT_PACKAGE_PATH = 'agent/nexus-agent.tgz';

/**
 * By Node.js, which every agent needs anyway: the programs that check a hash differ from system to system. Without double quotes and
 * backslashes, so that JSON shows the line as it is typed.
 */
const CHECK =
  'const sum = require(`crypto`).createHash(`sha256`).update(require(`fs`).readFileSync(`nexus-agent.tgz`)).digest(`hex`); ' +
  'if (sum !== process.argv[1]) throw Error(`nexus-agent.tgz has another hash: ` + sum)';

interface Archive {
  bytes: Buffer;
  sha256: string;
}

/** The agent that belongs to this server, as the build has packed it with all that it needs. */
@Injectable()
export class AgentPackage {
  private archive: Promise<Archive> | undefined;

  constructor(private readonly settings: Settings) {}

  /** @throws AppError `unavailable` when the build has not packed it */
  get(): Promise<Archive> {
    return (this.archive ??= readArchive().catch((error: unknown) => {
      this.archive = undefined;
      throw error;
    }));
  }

  /**
   * A line for a shell in any folder: fetches the agent from the server at `origin`, refuses it unless it is the one whose
   * hash the caller was told, and starts it. Nothing in it is looked up in a package registry.
   */
  joinCommand(origin: string, { sha256 }: Archive, token: string): string {
    const { protocol, hostname } = new URL(origin);
    const insecure = protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname);
    return [
      `curl -fsSO ${origin}/${AGENT_PACKAGE_PATH}`,
      `node -e '${CHECK}' ${sha256}`,
      'mkdir -p nexus-agent',
      'tar -xzf nexus-agent.tgz -C nexus-agent --strip-components=1',
      `node nexus-agent/bin/nexus-agent.js --url ${origin}/${this.settings.apiPrefix}${insecure ? ' --insecure-http' : ''} --join ${token}`,
    ].join(' && ');
  }
}

async function readArchive(): Promise<Archive> {
  const folder = path.dirname(createRequire(import.meta.url).resolve('@nexus/agent/package.json'));
  try {
    const bytes = await readFile(path.join(folder, 'dist/nexus-agent.tgz'));
    return { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
  } catch {
    throw AppError.unavailable('The agent of this server has not been packed: run npm run build', 60);
  }
}
