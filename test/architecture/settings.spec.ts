import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, loadSettings, settingNames } from '../../src/platform/config/index.js';
import { settingTests } from './setting-tests.js';

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');

describe('settings', () => {
  it('are all in .env.example and in the table of the README', () => {
    const example = read('.env.example');
    const readme = read('README.md');
    const missing = settingNames().filter(
      (name) => !new RegExp(`^#? ?${name}=`, 'm').test(example) || !readme.includes(`| \`${name}\``),
    );
    expect(missing).toEqual([]);
  });

  it('have a test of their effect, named in setting-tests.ts', () => {
    expect(Object.keys(settingTests).sort()).toEqual(settingNames().sort());
    const absent = Object.entries(settingTests).filter(([name, [file, title]]) => {
      const source = read(file);
      return !source.includes(name) || !source.includes(`'${title}'`);
    });
    expect(absent).toEqual([]);
  });

  it('are refused all at once, by name and without their values', () => {
    const wrong = {
      PORT: 'http',
      NEXUS_ROLE: 'king',
      DATABASE_URL: 'mysql://root:hunter2@db',
      NEXUS_RATE_LIMIT: 'off',
    };
    const refusal = (): unknown => loadSettings(wrong);
    expect(refusal).toThrow(ConfigError);
    for (const name of Object.keys(wrong)) expect(refusal).toThrow(new RegExp(`\\b${name}: `));
    expect(refusal).not.toThrow(/hunter2/);
  });

  it('ask for DATABASE_URL where the embedded database cannot serve', () => {
    expect(() => loadSettings({ NEXUS_ROLE: 'worker' })).toThrow(/DATABASE_URL/);
    expect(loadSettings({ NEXUS_ROLE: 'worker', DATABASE_URL: 'postgres://db/nexus' }).runsApi).toBe(false);
  });

  it('treat an empty variable as not set', () => {
    expect(loadSettings({ DATABASE_URL: '', PORT: '' })).toMatchObject({ embedded: true, port: 8000 });
  });
});
