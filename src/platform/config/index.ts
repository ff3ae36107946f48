export { Settings, ConfigError, loadSettings, settingNames } from './settings.js';
export { ConfigModule } from './config.module.js';
export { VERSION } from './version.js';
