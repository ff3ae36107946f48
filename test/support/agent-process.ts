import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { ROOT } from './nexus-process.js';

/** The agent's runtime as a process of its own, started as a user starts it. */
export class AgentProcess {
  output = '';

  private constructor(readonly child: ChildProcess) {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.output = (this.output + text).slice(-100_000);
    });
  }

  /** `join` is needed only for the first start on a home. */
  static start(options: {
    url: string;
    home: string;
    name: string;
    join?: string;
    config?: string;
    interval?: number;
  }): AgentProcess {
    const args = [
      path.join(ROOT, 'packages/agent/dist/cli.js'),
      ...[
        '--url',
        options.url,
        '--home',
        options.home,
        '--name',
        options.name,
        '--interval',
        String(options.interval ?? 1),
      ],
      ...(options.join ? ['--join', options.join] : []),
      ...(options.config ? ['--config', options.config] : []),
    ];
    return new AgentProcess(
      spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env.PATH } }),
    );
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Ends the process with `signal`; resolves once it is gone. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    if (!this.alive) return;
    this.child.kill(signal);
    await once(this.child, 'exit');
  }
}
