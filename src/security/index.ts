export { SecurityModule } from './security.module.js';
export { FirstRun, type FirstAdmin } from './accounts/first-run.js';
export { MasterKeyProbe } from './master-keys/master-key-probe.js';
export { AgentCredentials } from './keys/agent-credentials.js';
