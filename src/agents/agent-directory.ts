import { Injectable } from '@nestjs/common';
import { AppError } from '../platform/errors/index.js';
import { Database, prepared, type Tx } from '../platform/database/index.js';
import { parsePublicId, publicId } from '../platform/http/index.js';
import { type Agent, AGENT_COLUMNS } from './agent.js';
import { parseLabels } from './labels.js';

/** Most agents one selector may name, plus one, so that the caller sees that there are more. */
const MOST = 1001;

const BY_ID = prepared('agents.by-id', selection(`a.id = $1`));
const BY_NAME = prepared('agents.by-name', selection(`lower(a.name) = lower($1)`));
const BY_LABELS = selection(`a.all_labels @> $1::jsonb`);

/** Finds agents for other domains; deregistered ones do not exist here. */
@Injectable()
export class AgentDirectory {
  constructor(private readonly db: Database) {}

  /**
   * Agents that `target` names, by name: a public id (`agent_<uuid>`), an exact name (any case), `group:<name>` or
   * `label:key=value[,key=value]` (row CMD-13). Empty when there is none; at most 1001.
   * @throws AppError `validation` on a malformed selector
   */
  find(target: string, tx?: Tx): Promise<Agent[]> {
    const id = parsePublicId('agent', target);
    if (id) return this.select(BY_ID, id, tx);
    const labels = selectorOf(target);
    if (labels) return this.select(BY_LABELS, JSON.stringify(labels), tx);
    return this.select(BY_NAME, target, tx);
  }

  /** @throws AppError `not_found` */
  async get(id: string, tx?: Tx): Promise<Agent> {
    const agents = await this.select(BY_ID, id, tx);
    if (!agents[0]) throw AppError.notFound('agent', publicId('agent', id));
    return agents[0];
  }

  private select(sql: string, param: string, tx?: Tx): Promise<Agent[]> {
    return (tx ?? this.db.manager).query<Agent[]>(sql, [param]);
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
