import type { LoggerService } from '@nestjs/common';
import { type DestinationStream, type Logger as Pino, pino } from 'pino';
import { currentContext } from '../context/index.js';
import { redact, redactText } from './redact.js';
import { RepeatedLines } from './repeated-lines.js';

/** Bytes held for a standard error that nobody reads; what comes then is lost rather than the memory. */
const MAX_BUFFERED = 16 * 1024 * 1024;

/** Writes JSON lines to standard error, with the id of the current request and without secrets. */
export class Logger implements LoggerService {
  private readonly pino: Pino;
  private readonly repeated = new RepeatedLines();

  /** `destination` other than standard error: for tests. */
  constructor(level: string, destination: DestinationStream = standardError()) {
    this.pino = pino(
      {
        level,
        base: { service: 'nexus' },
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
        mixin: () => {
          const context = currentContext();
          return context ? { request_id: context.requestId } : {};
        },
      },
      destination,
    );
  }

  info(fields: Record<string, unknown> | string, message?: string): void {
    this.write('info', fields, message);
  }
  error(fields: Record<string, unknown> | string, ...rest: unknown[]): void {
    this.write('error', fields, rest[0]);
  }
  warn(fields: Record<string, unknown> | string, ...rest: unknown[]): void {
    this.write('warn', fields, rest[0]);
  }
  /** For what fails again and again while something is away: one line a minute for each topic, and how many were left out. */
  warnRepeated(topic: string, fields: Record<string, unknown>, message: string): void {
    const left = this.repeated.admit(topic, undefined, 1);
    if (left === null) return;
    this.warn({ ...fields, ...(left > 0 ? { left_out_before: left } : {}) }, message);
  }
  debug(fields: Record<string, unknown> | string, ...rest: unknown[]): void {
    this.write('debug', fields, rest[0]);
  }
  fatal(fields: Record<string, unknown> | string, ...rest: unknown[]): void {
    this.write('fatal', fields, rest[0]);
  }
  verbose(fields: Record<string, unknown> | string, ...rest: unknown[]): void {
    this.write('trace', fields, rest[0]);
  }
  /** Nest's own chatter about modules and routes. */
  log(message: unknown, ...rest: unknown[]): void {
    this.write('debug', String(message), rest.at(-1));
  }

  private write(
    level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal',
    fields: Record<string, unknown> | string,
    message: unknown,
  ): void {
    if (typeof fields === 'string') {
      // Nest calls with (message, context or stack).
      this.pino[level](message === undefined ? {} : { context: redact(message) }, redactText(fields));
    } else {
      const text = typeof message === 'string' ? redactText(message) : undefined;
      if (typeof fields.err === 'string' && (level === 'warn' || level === 'error')) {
        const left = this.repeated.admit(`${level} ${text} ${fields.err}`);
        if (left === null) return;
        if (left > 0) fields = { ...fields, left_out_before: left };
      }
      this.pino[level](redact(fields) as Record<string, unknown>, text);
    }
  }

  flush(): void {
    this.pino.flush();
  }
}

function standardError(): DestinationStream {
  return pino.destination({ dest: 2, sync: false, maxLength: MAX_BUFFERED });
}
