import { days, int, RateLimitSetting, Setting } from '../platform/config/index.js';

export class CommandSettings {
  static readonly title = 'Commands';

  @Setting(
    'NEXUS_COMMAND_OUTPUT_LIMIT',
    "Bytes of output kept per command; an agent's output beyond them is taken and dropped",
    int(1024, 1024 * 1024 * 1024),
  )
  outputLimit = 16 * 1024 * 1024;

  @Setting('NEXUS_COMMAND_RETENTION_DAYS', 'Days that finished commands and their output are kept', days())
  retentionDays = 30;

  @RateLimitSetting('commands', 'Limit of commands sent') rateLimit = '100/60';
}
