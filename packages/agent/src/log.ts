export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Where the agent tells what it does. Fields never hold the key, command parameters or output. */
export interface AgentLog {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export type LogFields = Record<string, string | number | boolean | null | undefined>;

export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** Lines on standard error: JSON, or plain text when a person watches. */
export function stderrLog(level: LogLevel): AgentLog {
  const least = LOG_LEVELS.indexOf(level);
  const plain = process.stderr.isTTY;
  const at =
    (lineLevel: LogLevel) =>
    (message: string, fields: LogFields = {}): void => {
      if (LOG_LEVELS.indexOf(lineLevel) < least) return;
      const time = new Date().toISOString();
      process.stderr.write(
        plain
          ? `${time.slice(11, 19)} ${lineLevel.padEnd(5)} ${message}${plainFields(fields)}\n`
          : `${JSON.stringify({ level: lineLevel, time, service: 'nexus-agent', ...fields, msg: message })}\n`,
      );
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

export const silentLog: AgentLog = { debug: ignore, info: ignore, warn: ignore, error: ignore };

function plainFields(fields: LogFields): string {
  return Object.entries(fields)
    .map(([name, value]) => ` ${name}=${value}`)
    .join('');
}

function ignore(): void {
  // A silent agent: many of them in one process.
}
