export { Agent, type AgentOptions, VERSION } from './agent.js';
export { type AgentConfig, readConfig, readConfigFile } from './agent-config.js';
export { AgentError } from './agent-error.js';
export { type AgentLog, type LogLevel, stderrLog } from './log.js';
export * from './protocol.js';
