import { days, int, RateLimitSetting, Setting } from '../platform/config/index.js';

export class WebhookSettings {
  static readonly title = 'Webhooks';

  @Setting(
    'NEXUS_WEBHOOK_CONCURRENCY',
    'Requests at once to one webhook that answers well; one that fails gets one at a time',
    int(1, 16),
  )
  concurrency = 10;

  @Setting(
    'NEXUS_WEBHOOK_DISABLE_AFTER',
    'Seconds of nothing but failures after which a webhook is disabled',
    int(1, 31_536_000),
  )
  disableAfterSeconds = 5 * 86_400;

  @Setting(
    'NEXUS_WEBHOOK_DISABLE_AFTER_FAILURES',
    'Failures in a row after which a webhook is disabled, however little time they took; 0 for never',
    int(0, 1_000_000),
  )
  disableAfterFailures = 0;

  @Setting(
    'NEXUS_WEBHOOK_MAX',
    'Most webhooks there may be, those of event subscriptions included: each keeps its own copy of every event that it gets',
    int(1, 10_000),
  )
  max = 500;

  @Setting('NEXUS_WEBHOOK_RETENTION_DAYS', 'Days that finished deliveries and their log are kept', days())
  retentionDays = 30;

  @RateLimitSetting('webhooks', 'Limit of webhooks') rateLimit = '1000/3600';
}
