import os from 'node:os';
import { Injectable } from '@nestjs/common';
import { HealthRegistry } from '../platform/observability/index.js';

/** What a built-in command leaves behind: text is its output, `data` its structured result. */
export interface BuiltinOutcome {
  message: string;
  data?: unknown;
}

type Builtin = (parameters: Record<string, unknown>, signal: AbortSignal) => Promise<BuiltinOutcome>;

/** Name of the server itself as a target. */
export const SERVER_TARGET = 'nexus';

/**
 * Commands that the server carries out on itself (target `nexus`). They may run twice after a crash, so each must be
 * harmless to repeat. Other domains register theirs while the server starts.
 */
@Injectable()
export class BuiltinCommands {
  private readonly commands = new Map<string, Builtin>();

  constructor(private readonly health: HealthRegistry) {
    this.register('system.ping', () => Promise.resolve({ message: 'pong', data: { time: new Date().toISOString() } }));
    this.register('system.info', () => Promise.resolve({ message: 'Server described', data: describeServer() }));
    this.register('health_check', () => this.checkHealth());
  }

  /** @throws Error when the type is registered twice (it stops the boot) */
  register(type: string, run: Builtin): void {
    if (this.commands.has(type)) throw new Error(`Built-in command ${type} is registered twice`);
    this.commands.set(type, run);
  }

  find(type: string): Builtin | null {
    return this.commands.get(type) ?? null;
  }

  names(): string[] {
    return [...this.commands.keys()];
  }

  private async checkHealth(): Promise<BuiltinOutcome> {
    const { status, components } = await this.health.run();
    return { message: `The server is ${status}`, data: { status, components } };
  }
}

function describeServer(): Record<string, unknown> {
  return {
    hostname: os.hostname(),
    platform: os.platform(),
    release: os.release(),
    arch: os.arch(),
    cpus: os.cpus().length,
    memory_total_bytes: os.totalmem(),
    memory_free_bytes: os.freemem(),
    load_average: os.loadavg(),
    uptime_seconds: Math.round(os.uptime()),
    node_version: process.version,
    process_uptime_seconds: Math.round(process.uptime()),
  };
}
