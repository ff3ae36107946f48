import { Module, type OnModuleInit } from '@nestjs/common';
import { IsNull } from 'typeorm';
import { AgentsModule } from '../agents/index.js';
import { Database, DatabaseModule } from '../platform/database/index.js';
import { EventsModule } from '../platform/events/index.js';
import { HttpModule } from '../platform/http/index.js';
import { JobsModule } from '../platform/jobs/index.js';
import { HealthRegistry, Metrics } from '../platform/observability/index.js';
import { RetentionModule } from '../platform/retention/index.js';
import { SecurityModule } from '../security/index.js';
import { BuiltinCommands } from './builtin-commands.js';
import { CommandCallbacks } from './command-callbacks.js';
import { CommandDispatch } from './command-dispatch.js';
import { CommandInbox } from './command-inbox.js';
import { CommandLogsController } from './command-logs.controller.js';
import { CommandLogs } from './command-logs.service.js';
import { CommandOutput } from './command-output.entity.js';
import { CommandPlanner } from './command-plan.js';
import { CommandQueries } from './command-queries.service.js';
import { CommandRights } from './command-rights.js';
import { CommandRuns } from './command-runs.js';
import { CommandSweep } from './command-sweep.js';
import { CommandType } from './command-type.entity.js';
import { CommandTypesController } from './command-types.controller.js';
import { CommandTypes } from './command-types.service.js';
import { CommandWriter } from './command-writer.js';
import { Command } from './command.entity.js';
import { CommandsController } from './commands.controller.js';
import {
  CommandQueued,
  CommandStarted,
  CommandCompleted,
  CommandFailed,
  CommandCancelled,
  CommandTimedOut,
} from './commands.events.js';
import { RunCommand, RunBuiltin, SendCallback, SweepCommands } from './commands.jobs.js';
import { countPending } from './commands.queries.js';
import { CommandsService } from './commands.service.js';
import { CommandSettings } from './commands.settings.js';
import { EndpointClient } from './endpoint-client.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    cmd: 'command';
  }
}

/** From a command's request to its result. */
@Module({
  imports: [
    EventsModule.forFeature({
      events: [CommandQueued, CommandStarted, CommandCompleted, CommandFailed, CommandCancelled, CommandTimedOut],
      families: [{ types: ['command.*'], channel: 'commands.status', scope: 'command:read' }],
    }),
    JobsModule.forFeature([RunCommand, RunBuiltin, SendCallback, SweepCommands]),
    HttpModule.forFeature({ tags: { commands: 'Run commands on agents and follow their output' } }),
    DatabaseModule.forFeature([CommandOutput, CommandType, Command], { filledByMigrations: ['command_types'] }),
    SecurityModule,
    AgentsModule,
    RetentionModule.forFeature([
      // Children go with their parents, output with its command.
      {
        entity: Command,
        column: 'completedAt',
        days: (settings) => settings.get(CommandSettings).retentionDays,
        where: { parentId: IsNull() },
      },
    ]),
  ],
  // The catalogue first: `types` is no command id.
  controllers: [CommandTypesController, CommandsController, CommandLogsController],
  providers: [
    BuiltinCommands,
    CommandCallbacks,
    CommandDispatch,
    CommandInbox,
    CommandLogs,
    CommandPlanner,
    CommandQueries,
    CommandRights,
    CommandRuns,
    CommandSweep,
    CommandTypes,
    CommandWriter,
    CommandsService,
    EndpointClient,
  ],
  exports: [BuiltinCommands, CommandsService],
})
export class CommandsModule implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly metrics: Metrics,
    private readonly health: HealthRegistry,
  ) {}

  onModuleInit(): void {
    const { db } = this;
    const pending = async (): Promise<Record<string, number>> => {
      const counts = new Map((await countPending(db)).map(({ status, count }) => [status, count]));
      return Object.fromEntries(
        (['queued', 'delivered', 'running'] as const).map((status) => [status, counts.get(status) ?? 0]),
      );
    };
    this.metrics.sharedGauge(
      'nexus_commands_pending',
      'Commands that have not ended',
      ['substatus'],
      async function () {
        for (const [substatus, n] of Object.entries(await pending())) this.set({ substatus }, n);
      },
    );
    this.health.register('commands', pending);
  }
}
