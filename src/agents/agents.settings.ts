import { Matches } from 'class-validator';
import { flag, int, list, Setting } from '../platform/config/index.js';

export class AgentSettings {
  static readonly title = 'Agents';

  @Setting(
    'NEXUS_LOCAL_AGENT',
    'Whether this machine joins as the agent `local` (role all with the embedded database)',
    flag(),
  )
  localAgent = true;

  @Setting(
    'NEXUS_HEARTBEAT_SECONDS',
    'Seconds between two heartbeats of an agent; one that misses three is shown offline',
    int(1, 300),
  )
  heartbeatSeconds = 15;

  @Setting(
    'NEXUS_AGENT_SELF_REPORTED_LABELS',
    'Names of labels that select agents for commands although the agents report them of themselves, comma-separated',
    list(Matches(/^[A-Za-z0-9._/-]{1,63}$/, { each: true, message: 'must be names of labels' })),
  )
  selfReportedLabels: string[] = [];
}
