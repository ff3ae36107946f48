import { IsOptional } from 'class-validator';
import { flag, Setting } from '../platform/config/index.js';

export class SystemSettings {
  static readonly title = 'System';

  @Setting(
    'NEXUS_HEALTH_PUBLIC',
    'false: /health/detailed needs the scope system:read; not set: true only while `NEXUS_HOST` is a loopback address',
    IsOptional(),
    flag(),
  )
  healthPublic?: boolean;

  @Setting(
    'NEXUS_METRICS_PUBLIC',
    'false: /metrics needs the scope metrics:read; not set: true only while `NEXUS_HOST` is a loopback address',
    IsOptional(),
    flag(),
  )
  metricsPublic?: boolean;
}
