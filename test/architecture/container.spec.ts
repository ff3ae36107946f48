import { existsSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { settingNames } from '../../src/platform/config/index.js';
import { readSettings, settingsClasses } from '../../src/settings.js';

const at = (file: string): URL => new URL(`../../${file}`, import.meta.url);
const read = (file: string): string => readFileSync(at(file), 'utf8');

const dockerfile = read('Dockerfile').replace(/\\\n/g, ' ').split('\n');
/** First words and rest of the instructions of one kind. */
const instructions = (kind: string): string[] =>
  dockerfile.filter((line) => line.startsWith(`${kind} `)).map((line) => line.slice(kind.length + 1));

interface Service {
  environment: Record<string, string>;
  image: string;
  ports: string[];
  depends_on: Record<string, { condition: string }>;
  stop_grace_period: string;
}
const { services } = parse(read('docker-compose.yml'), { merge: true }) as { services: Record<string, Service> };

describe('the container image', () => {
  it('copies only what is in the repository and what .dockerignore lets through', () => {
    const sources = instructions('COPY')
      .filter((line) => !line.startsWith('--from='))
      .flatMap((line) => line.split(/\s+/).slice(0, -1));
    expect(sources).toContain('src');
    expect(sources.filter((source) => !existsSync(at(source)))).toEqual([]);
    const ignored = read('.dockerignore').trim().split('\n');
    expect(sources.filter((source) => ignored.includes(source.split('/')[0]))).toEqual([]);
    for (const secret of ['.env', '.nexus', '**/node_modules', '**/dist']) expect(ignored).toContain(secret);
  });

  it('takes over what the build has made, and what the server reads beside it', () => {
    const taken = instructions('COPY').filter((line) => line.startsWith('--from=build'));
    const parts = taken.map((line) => /\/app\/(\S+)/.exec(line)?.[1]);
    expect(parts.sort()).toEqual(['dist', 'node_modules', 'package.json', 'packages']);
  });

  it('runs the server itself, as an ordinary user, so that it gets the signals', () => {
    expect(instructions('USER')).toEqual(['node']);
    expect(instructions('CMD')).toEqual(['["node", "--max-semi-space-size=32", "dist/src/main.js"]']);
    expect(instructions('HEALTHCHECK')[0]).toContain('/readyz');
  });

  it('listens on all addresses of the container, unlike a server started by hand', () => {
    expect(instructions('ENV').join(' ').split(' ')).toContain('NEXUS_HOST=0.0.0.0');
    for (const { environment } of [services.api, services.worker]) expect(environment.NEXUS_HOST).toBe('0.0.0.0');
  });

  it('sets only known variables', () => {
    const names = instructions('ENV').flatMap((line) => line.split(' ').map((pair) => pair.split('=')[0]));
    expect(names.filter((name) => name !== 'NODE_ENV' && !settingNames(settingsClasses).includes(name))).toEqual([]);
  });
});

describe('docker-compose.yml', () => {
  it('starts an API and a worker with settings that Nexus accepts', () => {
    const { api, worker } = services;
    expect([api.environment.NEXUS_ROLE, worker.environment.NEXUS_ROLE]).toEqual(['api', 'worker']);
    for (const { environment } of [api, worker]) {
      expect(Object.keys(environment).filter((name) => !settingNames(settingsClasses).includes(name))).toEqual([]);
      expect(() => readSettings(environment)).not.toThrow();
    }
    expect([api.ports, worker.ports]).toEqual([['8000:8000'], []]);
  });

  it('waits for healthy servers and leaves time to stop', () => {
    for (const service of [services.api, services.worker]) {
      expect(Object.keys(service.depends_on)).toEqual(['postgres', 'redis']);
      expect(Object.values(service.depends_on).every(({ condition }) => condition === 'service_healthy')).toBe(true);
      expect(Number.parseInt(service.stop_grace_period, 10)).toBeGreaterThan(20);
    }
  });
});

describe('scripts', () => {
  it.each(['.ci/run', 'scripts/install-test-packages.sh'])('%s can be executed', (file) => {
    expect(statSync(at(file)).mode & 0o111).not.toBe(0);
  });
});
