import type { Settings } from './platform/config/index.js';

export interface FirstRunSecrets {
  username: string;
  /** Null when the person chose it (NEXUS_ADMIN_PASSWORD). */
  password: string | null;
  apiKey: string;
}

/** What a person needs after a start, and nothing more. The secrets of the first start are shown this once. */
export function printBanner(
  say: (line: string) => void,
  {
    settings,
    port,
    firstRun,
    version,
  }: { settings: Settings; port: number; firstRun: FirstRunSecrets | null; version: string },
): void {
  const url = `http://${hostOf(settings.host)}:${port}`;
  if (!settings.runsApi) {
    say(`\n  Nexus ${version} worker is running; probes and metrics on ${url}/readyz and ${url}/metrics\n`);
    return;
  }
  const api = `${url}/${settings.apiPrefix}`;
  const lines = [`Nexus ${version} is running on ${url}`];
  if (settings.docsEnabled) lines.push(`API docs     ${url}/docs`);
  if (firstRun) {
    lines.push(
      `User         ${firstRun.username}`,
      `Password     ${firstRun.password ?? 'as set in NEXUS_ADMIN_PASSWORD'}`,
      `API key      ${firstRun.apiKey}`,
      '',
      `Shown only this once: keep ${firstRun.password === null ? 'the key' : 'the password and the key'}.`,
      `Log in with POST ${api}/auth/login, or send the key with each request:`,
    );
  } else {
    lines.push('Log in       with the user and password, or the API key, of the first start', '');
  }
  lines.push(
    `  curl -H "Authorization: Bearer ${firstRun?.apiKey ?? '$NEXUS_API_KEY'}" "${api}/telemetry/events?limit=3"`,
  );
  say(`\n${lines.map((line) => (line ? `  ${line}` : line)).join('\n')}\n`);
}

/** The host to put into a URL for somebody on this machine. */
function hostOf(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}
