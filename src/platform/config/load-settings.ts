import { plainToInstance } from 'class-transformer';
import { validateSync } from 'class-validator';
import { type SettingInfo, type SettingsClass, settingsOf } from './setting.js';

/** Names every wrong key, never a value (values can be secrets). */
export class ConfigError extends Error {}

/** Names that belong to the agent package, the client SDKs and the tests, allowed in the same environment. */
const FOREIGN = /^NEXUS_(AGENT_|URL$|API_KEY$|BASE_URL$|TIMEOUT$|RETRY_ATTEMPTS$|TEST_)/;

/** The settings of one process: an instance of each class. */
export class LoadedSettings {
  constructor(private readonly instances: ReadonlyMap<SettingsClass, object>) {}

  get<T extends object>(type: SettingsClass<T>): T {
    const found = this.instances.get(type);
    if (!found) throw new Error(`${type.name} was not loaded`);
    return found as T;
  }

  classes(): SettingsClass[] {
    return [...this.instances.keys()];
  }

  /** The rate limits of all classes, as set. */
  rateLimits(): { category: string; alone: boolean; text: string }[] {
    return [...this.instances].flatMap(([type, instance]) =>
      settingsOf(type).flatMap(({ property, rateLimit }) =>
        rateLimit ? [{ ...rateLimit, text: (instance as Record<string, string>)[property] }] : [],
      ),
    );
  }
}

/** What a class of settings may do besides declaring fields. */
interface SettingsSection {
  /** What is wrong with fields together, each as `NAME: why`; asked when each by itself is fine. */
  problems?(): string[];
}

/**
 * Reads settings from an environment. An empty variable counts as not set.
 * @throws ConfigError naming every wrong and every unknown `NEXUS_*` key
 */
export function loadSettings(env: NodeJS.ProcessEnv, classes: readonly SettingsClass[]): LoadedSettings {
  const instances = new Map<SettingsClass, object>();
  const problems: string[] = [];
  for (const type of classes) {
    const { instance, wrong } = read(env, type);
    instances.set(type, instance);
    problems.push(...wrong);
  }
  const known = new Set(settingNames(classes));
  for (const name of Object.keys(env)) {
    if (name.startsWith('NEXUS_') && !known.has(name) && !FOREIGN.test(name)) problems.push(`${name}: unknown setting`);
  }
  if (problems.length > 0) throw new ConfigError(`Bad configuration:\n${problems.map((p) => `  ${p}`).join('\n')}`);
  return new LoadedSettings(instances);
}

function read(env: NodeJS.ProcessEnv, type: SettingsClass): { instance: object; wrong: string[] } {
  const settings = settingsOf(type);
  const given: Record<string, string> = {};
  for (const { property, env: name } of settings) {
    const value = env[name];
    if (value !== undefined && value !== '') given[property] = value;
  }
  const instance: SettingsSection = plainToInstance(type, given, { exposeDefaultValues: true });
  const names = new Map(settings.map((setting) => [setting.property, setting.env]));
  const wrong = validateSync(instance, { forbidUnknownValues: true }).map(({ property, constraints }) => {
    const why = Object.values(constraints ?? {}).join(', ');
    return `${names.get(property)}: ${why.replaceAll(property, 'value')}`;
  });
  return { instance, wrong: wrong.length > 0 ? wrong : (instance.problems?.() ?? []) };
}

/** Environment names of all settings. */
export function settingNames(classes: readonly SettingsClass[]): string[] {
  return classes.flatMap((type) => settingsOf(type).map(({ env }: SettingInfo) => env));
}
