import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

const PACKAGE = path.resolve(import.meta.dirname, '..');
const COMPILER = path.resolve(PACKAGE, '../../node_modules/typescript/bin/tsc');

/** Compiles the package: the tests of the command run what users run. */
export function build(): void {
  const { status, stdout } = spawnSync(process.execPath, [COMPILER, '-b', PACKAGE], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stdout);
}

/** `nexus-agent` as a process. */
export class AgentCommand {
  stdout = '';
  stderr = '';
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;

  private constructor(readonly child: ChildProcess) {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    // A child with a channel that was disconnected never tells of its close.
    this.ended = once(child, child.channel ? 'exit' : 'close').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }));
  }

  static start(args: string[], options: { env?: Record<string, string>; channel?: boolean } = {}): AgentCommand {
    const child = spawn(process.execPath, [path.join(PACKAGE, 'bin/nexus-agent.js'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe', ...(options.channel ? ['ipc' as const] : [])],
      env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...options.env },
    });
    return new AgentCommand(child);
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.child.kill(signal);
    await this.ended;
  }
}
