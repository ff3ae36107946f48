import { AgentSettings } from './agents/agents.settings.js';
import { AlertSettings } from './alerts/alerts.settings.js';
import { CommandSettings } from './commands/commands.settings.js';
import { EventsApiSettings } from './events/events.settings.js';
import { HookSettings } from './hooks/hooks.settings.js';
import { SecuritySettings } from './security/security.settings.js';
import { SystemSettings } from './system/system.settings.js';
import { TelemetrySettings } from './telemetry/telemetry.settings.js';
import { WebhookSettings } from './webhooks/webhooks.settings.js';
import { loadSettings, type LoadedSettings, Settings, type SettingsClass } from './platform/config/index.js';

/** The settings of the platform and of every domain. They are read before the modules are loaded: a wrong one is told at once. */
export const settingsClasses: readonly SettingsClass[] = [
  Settings,
  SecuritySettings,
  AgentSettings,
  CommandSettings,
  TelemetrySettings,
  AlertSettings,
  WebhookSettings,
  EventsApiSettings,
  HookSettings,
  SystemSettings,
];

/** @throws ConfigError naming every wrong and every unknown key */
export function readSettings(env: NodeJS.ProcessEnv): LoadedSettings {
  return loadSettings(env, settingsClasses);
}
