export { AgentsModule } from './agents.module.js';
export { AgentLinks } from './agent-links.js';
export type { AgentLink, HelloFrame } from './agent-link.js';
export { AgentsService } from './agents.service.js';
export { AgentSigningKeys, type Sign } from './agent-signing-keys.js';
export { AgentDirectory } from './agent-directory.js';
export type { TargetAgent } from './agents.queries.js';
