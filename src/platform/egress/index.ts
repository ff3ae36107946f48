export { EgressClient } from './egress-client.js';
export type { EgressOptions, EgressRequest, EgressResponse } from './egress-client.js';
export { EgressError, type EgressErrorCode } from './egress-error.js';
export { EgressModule } from './egress.module.js';
