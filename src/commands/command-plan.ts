import { Injectable } from '@nestjs/common';
import { AgentDirectory, type TargetAgent } from '../agents/index.js';
import type { Actor } from '../platform/context/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { AppError } from '../platform/errors/index.js';
import { nearestNames } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { BuiltinCommands, SERVER_TARGET } from './builtin-commands.js';
import { priorityOf } from './command-queries.service.js';
import { type CommandRule, CommandTypes } from './command-types.service.js';
import type { Executor } from './command.entity.js';
import type { CreateCommandDto } from './commands.dto.js';
import { checkParameters } from './parameter-schemas.js';

/** Fits a frame of the agent link twice over, whatever the escaping. */
const MAX_PARAMETER_BYTES = 64 * 1024;
const MAX_TARGETS = 1000;
const DEFAULT_TIMEOUT_SECONDS = 300;

/** Where one command goes and who carries it out. */
export interface PlannedTarget {
  agentId: string | null;
  name: string;
  executor: Executor;
}

/** A request that has been found in order. */
export interface CommandPlan {
  type: string;
  target: string;
  targets: PlannedTarget[];
  parameters: Record<string, unknown>;
  priority: number;
  timeoutSeconds: number;
  callbackUrl: string | null;
}

/** Decides whether a requested command may be accepted, and for whom it is. */
@Injectable()
export class CommandPlanner {
  constructor(
    private readonly directory: AgentDirectory,
    private readonly types: CommandTypes,
    private readonly builtins: BuiltinCommands,
    private readonly egress: EgressClient,
  ) {}

  /**
   * @throws AppError `not_found` for a target that is nobody, `forbidden` for one the actor may not command,
   * `unprocessable` for a type the target does not know, `validation` for wrong parameters
   */
  async plan(actor: Actor, dto: CreateCommandDto): Promise<CommandPlan> {
    const parameters = dto.parameters ?? {};
    if (Buffer.byteLength(JSON.stringify(parameters)) > MAX_PARAMETER_BYTES) {
      throw AppError.validation({ field: 'parameters', issue: `must not be larger than ${MAX_PARAMETER_BYTES} bytes` });
    }
    const [agents, type] = await Promise.all([this.agentsOf(dto.target), this.types.rule(dto.command_type)]);
    this.assertMayCommand(actor, agents);
    if (type && !type.enabled) throw AppError.unprocessable(`The command type ${dto.command_type} is disabled`);
    await this.assertKnown(dto.command_type, type, agents);
    if (type) checkParameters(type.parameters, parameters);
    const callbackUrl = dto.callback_url ?? null;
    if (callbackUrl !== null) await this.egress.assertAllowed(callbackUrl, 'callback_url');
    return {
      type: dto.command_type,
      target: dto.target,
      targets: agents?.map(toTarget) ?? [{ agentId: null, name: SERVER_TARGET, executor: 'builtin' }],
      parameters,
      priority: priorityOf(dto.priority ?? 'normal'),
      timeoutSeconds: dto.timeout_seconds ?? type?.defaultTimeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS,
      callbackUrl,
    };
  }

  /** Checks that the actor may command these agents now (to cancel what runs there); deregistered ones are passed over. */
  async assertMayCommandIds(actor: Actor, agentIds: (string | null)[]): Promise<void> {
    if (!actor.targetLabels) return;
    for (const id of agentIds) {
      const agents = id === null ? null : await this.directory.find(publicId('agent', id));
      this.assertMayCommand(actor, agents);
    }
  }

  /** A right to command that is limited by labels does not reach the server itself, which has none. */
  private assertMayCommand(actor: Actor, agents: TargetAgent[] | null): void {
    const wanted = Object.entries(actor.targetLabels ?? {});
    if (wanted.length === 0) return;
    const allowed = agents?.every((agent) => {
      const labels = this.directory.trustedLabels(agent);
      return wanted.every(([key, value]) => labels[key] === value);
    });
    if (allowed) return;
    const words = wanted.map(([key, value]) => `${key}=${value}`).join(', ');
    throw AppError.forbidden(`You may command only targets labelled ${words}`, { required_labels: actor.targetLabels });
  }

  /** Agents that a target names; null for the server itself. */
  private async agentsOf(target: string): Promise<TargetAgent[] | null> {
    if (target === SERVER_TARGET) return null;
    const agents = await this.directory.find(target);
    if (agents.length === 0) {
      throw new AppError(
        'not_found',
        `target not found: no agent answers to ${target.slice(0, 100)}; GET /ai/agents lists those that have joined`,
        {
          details: {
            resource: 'target',
            id: target.slice(0, 100),
            expected: 'the name or id of an agent, group:<name>, label:<key>=<value> or nexus for the server itself',
          },
        },
      );
    }
    if (agents.length > MAX_TARGETS) {
      throw AppError.unprocessable(`The target selects more than ${MAX_TARGETS} agents`, { target });
    }
    return agents;
  }

  private async assertKnown(name: string, type: CommandRule | null, agents: TargetAgent[] | null): Promise<void> {
    if (agents === null) {
      if (this.builtins.find(name) && type?.executor !== 'agent') return;
      const there = nearestNames(name, this.builtins.names());
      throw AppError.unprocessable(`The server itself has no command ${name}; there are ${there}`, {
        command_type: name,
      });
    }
    if (type?.executor === 'server') {
      throw AppError.unprocessable(`${name} is a command of the server itself (target ${SERVER_TARGET})`);
    }
    const unwilling = agents.filter((agent) => !isWilling(agent, name, type));
    if (unwilling.length === 0) return;
    const anyone = type !== null || unwilling.length < agents.length;
    const taken = unwilling.flatMap((agent) => agent.commandTypes.map((advert) => advert.type));
    const there = nearestNames(name, taken.length > 0 ? taken : await this.types.names());
    throw AppError.unprocessable(
      `${anyone ? `Not every target accepts the command ${name}` : `The command type ${name} is unknown`}; there are ${there}`,
      { command_type: name, targets: unwilling.slice(0, 20).map((agent) => agent.name) },
    );
  }
}

/** An agent that has said what it executes executes nothing else; of one that has not yet, the catalogue decides. */
function isWilling(agent: TargetAgent, name: string, type: CommandRule | null): boolean {
  if (agent.commandTypes.length === 0) return type !== null;
  return agent.commandTypes.some((advert) => advert.type === name);
}

function toTarget(agent: TargetAgent): PlannedTarget {
  const viaHttp = agent.endpoint !== null && agent.agentType !== 'host' && agent.connectedAt === null;
  return { agentId: agent.id, name: agent.name, executor: viaHttp ? 'http' : 'link' };
}
