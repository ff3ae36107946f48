import { days, int, RateLimitSetting, Setting } from '../platform/config/index.js';

export class TelemetrySettings {
  static readonly title = 'Telemetry';

  @Setting(
    'NEXUS_TELEMETRY_MAX_FUTURE_SECONDS',
    "Seconds that the timestamp of an event may be ahead of the server's clock",
    int(0, 86_400),
  )
  maxFutureSeconds = 300;

  @Setting(
    'NEXUS_TELEMETRY_MAX_SERIES',
    'Most series (source, metric and tags); events past it are stored but not rolled up',
    int(1, 10_000_000),
  )
  maxSeries = 100_000;

  @Setting(
    'NEXUS_TELEMETRY_MAX_SERIES_PER_SOURCE',
    'Most series of one source, so that it leaves room for the others',
    int(1, 10_000_000),
  )
  maxSeriesPerSource = 10_000;

  @Setting(
    'NEXUS_TELEMETRY_RETENTION_DAYS',
    'Days that single events are kept by their `timestamp`; of those that are older on arrival, by the time of receipt',
    days(),
  )
  retentionDays = 30;

  @Setting('NEXUS_TELEMETRY_ROLLUP_1M_DAYS', 'Days that rollups of one minute are kept', days()) rollup1mDays = 7;

  @Setting('NEXUS_TELEMETRY_ROLLUP_5M_DAYS', 'Days that rollups of five minutes are kept', days()) rollup5mDays = 30;

  @Setting('NEXUS_TELEMETRY_ROLLUP_1H_DAYS', 'Days that rollups of one hour are kept', days(36_500)) rollup1hDays = 365;

  @Setting('NEXUS_TELEMETRY_ROLLUP_1D_DAYS', 'Days that rollups of one day are kept', days(36_500)) rollup1dDays = 1825;

  @RateLimitSetting('telemetry', 'Limit of what is asked under /telemetry but batches', { alone: true })
  rateLimit = '1000/60';

  @RateLimitSetting('telemetry_batch', 'Limit of telemetry batches', { alone: true }) batchRateLimit = '100/60';
}
