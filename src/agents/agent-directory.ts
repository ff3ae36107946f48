import { Injectable } from '@nestjs/common';
import { AgentSettings } from './agents.settings.js';
import { AppError } from '../platform/errors/index.js';
import { Database, prepared, type Tx } from '../platform/database/index.js';
import { parsePublicId, publicId } from '../platform/http/index.js';
import { type Agent, AGENT_COLUMNS } from './agent.js';
import { trustedLabels } from './agent-limits.js';
import { parseLabels } from './labels.js';

/** Most agents one selector may name, plus one, so that the caller sees that there are more. */
const MOST = 1001;

const BY_ID = prepared('agents.by-id', selection(`a.id = $1`));
const BY_NAME = prepared('agents.by-name', selection(`lower(a.name) = lower($1)`));
/** `$1`: all labels asked for; `$2`: those of them that must have been set here. */
const BY_LABELS = selection(`a.all_labels @> $1::jsonb AND a.labels @> $2::jsonb`);

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
  find(target: string, tx?: Tx): Promise<Agent[]> {
    const id = parsePublicId('agent', target);
    if (id) return this.select(BY_ID, [id], tx);
    const labels = selectorOf(target);
    if (!labels) return this.select(BY_NAME, [target], tx);
    const set = Object.entries(labels).filter(([name]) => !this.settings.selfReportedLabels.includes(name));
    return this.select(BY_LABELS, [JSON.stringify(labels), JSON.stringify(Object.fromEntries(set))], tx);
  }

  /** @throws AppError `not_found` */
  async get(id: string, tx?: Tx): Promise<Agent> {
    const agents = await this.select(BY_ID, [id], tx);
    if (!agents[0]) throw AppError.notFound('agent', publicId('agent', id));
    return agents[0];
  }

  /** Labels of an agent by which it may be commanded. */
  trustedLabels(agent: Agent): Record<string, string> {
    return trustedLabels(agent, this.settings.selfReportedLabels);
  }

  private select(sql: string, params: string[], tx?: Tx): Promise<Agent[]> {
    return (tx ?? this.db.manager).query<Agent[]>(sql, params);
  }
}

function selection(condition: string): string {
  return `SELECT ${AGENT_COLUMNS} FROM agents a WHERE ${condition} AND a.status <> 'deregistered'
    ORDER BY lower(a.name) LIMIT ${MOST}`;
}

/** Labels a selector asks for; null when the target is none. */
function selectorOf(target: string): Record<string, string> | null {
  if (target.startsWith('group:')) return parseLabels(`group=${target.slice(6)}`, 'target');
  return target.startsWith('label:') ? parseLabels(target.slice(6), 'target') : null;
}
