import { Injectable } from '@nestjs/common';
import { AgentSettings } from './agents.settings.js';
import { AppError } from '../platform/errors/index.js';
import { Database } from '../platform/database/index.js';
import { parsePublicId, publicId } from '../platform/ids/index.js';
import { trustedLabels } from './agent-limits.js';
import { findTargetById, findTargetByName, findTargetsByLabels, type TargetAgent } from './agents.queries.js';
import { parseLabels } from './labels.js';

/** Finds agents for other domains; deregistered ones do not exist here. */
@Injectable()
export class AgentDirectory {
  constructor(
    private readonly db: Database,
    private readonly settings: AgentSettings,
  ) {}

  /**
   * Agents that `target` names, by name: a public id (`agent_<uuid>`), an exact name (any case), `group:<name>` or
   * `label:key=value[,key=value]`. Labels that agents report of themselves count only where a setting lists their names.
   * Empty when there is none; at most 1001.
   * @throws AppError `validation` on a malformed selector
   */
  find(target: string): Promise<TargetAgent[]> {
    const id = parsePublicId('agent', target);
    if (id) return findTargetById(this.db, id);
    const labels = selectorOf(target);
    if (!labels) return findTargetByName(this.db, target);
    const set = Object.entries(labels).filter(([name]) => !this.settings.selfReportedLabels.includes(name));
    return findTargetsByLabels(this.db, labels, Object.fromEntries(set));
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<TargetAgent> {
    const [agent] = await findTargetById(this.db, id);
    if (!agent) throw AppError.notFound('agent', publicId('agent', id));
    return agent;
  }

  /** Labels of an agent by which it may be commanded. */
  trustedLabels(agent: TargetAgent): Record<string, string> {
    return trustedLabels(agent, this.settings.selfReportedLabels);
  }
}

/** Labels a selector asks for; null when the target is none. */
function selectorOf(target: string): Record<string, string> | null {
  if (target.startsWith('group:')) return parseLabels(`group=${target.slice(6)}`, 'target');
  return target.startsWith('label:') ? parseLabels(target.slice(6), 'target') : null;
}
