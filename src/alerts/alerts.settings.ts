import { days, int, Setting } from '../platform/config/index.js';

export class AlertSettings {
  static readonly title = 'Alerts';

  @Setting('NEXUS_ALERT_MAX_RULES', 'Most alert rules there may be', int(1, 10_000)) maxRules = 2000;

  @Setting(
    'NEXUS_ALERT_MAX_GROUPS',
    'Groups of one alert rule (such as sources) that may be pending or have an alert at the same time',
    int(1, 10_000),
  )
  maxGroups = 1000;

  @Setting('NEXUS_ALERT_RETENTION_DAYS', 'Days that cleared alerts are kept', days()) retentionDays = 90;
}
