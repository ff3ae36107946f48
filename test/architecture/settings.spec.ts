import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, Settings, settingNames, settingsOf } from '../../src/platform/config/index.js';
import { readSettings, settingsClasses } from '../../src/settings.js';
import { settingTests } from './setting-tests.js';

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');

/** What stands between two lines of a generated part. */
const PART = /(<!-- settings -->\n)[^]*(<!-- \/settings -->)/;
const README = 'README.md';
const EXAMPLE = '.env.example';

const textOf = (value: string | number | boolean | string[] | undefined): string => {
  if (Array.isArray(value)) return value.join(',');
  return value === undefined ? '' : String(value).replace(`${process.cwd()}/`, '');
};

/** Name, default and meaning of every setting, by the title of its class. */
function described(): { title: string; rows: [name: string, byDefault: string, about: string][] }[] {
  const defaults = readSettings({});
  return settingsClasses.map((type) => {
    const values = defaults.get(type) as Record<string, Parameters<typeof textOf>[0]>;
    const rows = settingsOf(type).map(({ env, property, about }): [string, string, string] => [
      env,
      textOf(values[property]),
      about,
    ]);
    return { title: type.title, rows };
  });
}

function readmeTable(): string {
  const lines = described().flatMap(({ title, rows }) => [
    `| **${title}** | | |`,
    ...rows.map(([name, byDefault, about]) => `| \`${name}\` | ${byDefault && `\`${byDefault}\``} | ${about} |`),
  ]);
  return ['', '<!-- prettier-ignore -->', '| name | default | meaning |', '| --- | --- | --- |', ...lines, '', ''].join(
    '\n',
  );
}

function exampleFile(): string {
  const sections = described().map(({ title, rows }) => {
    const lines = rows.flatMap(([name, byDefault, about]) => [`# ${about}`, `#${name}=${byDefault}`]);
    return [`# ${title}`, '', ...lines, '', ''].join('\n');
  });
  const head =
    '# Every setting is optional and shows its default. Copy to .env or set in the environment, which goes before the file.';
  return [head, '', ...sections].join('\n');
}

describe('settings', () => {
  it('are described in the README and .env.example as their classes say (npm run docs:settings writes both)', () => {
    const wanted: Record<string, string> = {
      [README]: read(README).replace(PART, (_all, begin: string, end: string) => `${begin}${readmeTable()}${end}`),
      [EXAMPLE]: exampleFile(),
    };
    for (const [file, text] of Object.entries(wanted)) {
      if (process.env.NEXUS_TEST_WRITE_SETTINGS) writeFileSync(new URL(`../../${file}`, import.meta.url), text);
      expect(read(file)).toBe(text);
    }
  });

  it('are listed once, from every file of settings', () => {
    const files = readdirSync(new URL('../../src', import.meta.url), { recursive: true, encoding: 'utf8' });
    const titles = settingsClasses.map(({ title }) => title);
    expect(files.filter((file) => file.endsWith('.settings.ts'))).toHaveLength(settingsClasses.length - 1);
    expect(new Set(titles).size).toBe(titles.length);
    const names = settingNames(settingsClasses);
    expect(new Set(names).size).toBe(names.length);
  });

  it('have a test of their effect, named in setting-tests.ts', () => {
    expect(Object.keys(settingTests).sort()).toEqual(settingNames(settingsClasses).sort());
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
    const refusal = (): unknown => readSettings(wrong);
    expect(refusal).toThrow(ConfigError);
    for (const name of Object.keys(wrong)) expect(refusal).toThrow(new RegExp(`\\b${name}: `));
    expect(refusal).not.toThrow(/hunter2/);
  });

  it('ask for DATABASE_URL where the embedded database cannot serve', () => {
    expect(() => readSettings({ NEXUS_ROLE: 'worker' })).toThrow(/DATABASE_URL/);
    expect(readSettings({ NEXUS_ROLE: 'worker', DATABASE_URL: 'postgres://db/nexus' }).get(Settings).runsApi).toBe(
      false,
    );
  });

  it('treat an empty variable as not set', () => {
    expect(readSettings({ DATABASE_URL: '', PORT: '' }).get(Settings)).toMatchObject({ embedded: true, port: 8000 });
  });
});
