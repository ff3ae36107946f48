export { Logger } from './logger.js';
export { Metrics } from './metrics.js';
export {
  CheckFailed,
  HealthRegistry,
  type HealthCheck,
  type HealthStatus,
  type LifecycleState,
} from './health-registry.js';
export { ObservabilityModule } from './observability.module.js';
