export { Settings } from './settings.js';
export { ConfigError, LoadedSettings, loadSettings, settingNames } from './load-settings.js';
export {
  days,
  flag,
  int,
  list,
  RateLimitSetting,
  Setting,
  type SettingInfo,
  type SettingsClass,
  settingsOf,
} from './setting.js';
export { ConfigModule } from './config.module.js';
export { VERSION } from './version.js';
