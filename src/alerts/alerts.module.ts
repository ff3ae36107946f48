import { Module, type OnModuleInit } from '@nestjs/common';
import { CommandsModule } from '../commands/index.js';
import { Database, DatabaseModule } from '../platform/database/index.js';
import { EventsModule } from '../platform/events/index.js';
import { HttpModule } from '../platform/http/index.js';
import { JobsModule } from '../platform/jobs/index.js';
import { HealthRegistry, Metrics } from '../platform/observability/index.js';
import { RetentionModule } from '../platform/retention/index.js';
import { TelemetryModule } from '../telemetry/index.js';
import { WebhooksModule } from '../webhooks/index.js';
import { Absences } from './absences.js';
import { AlertActions } from './alert-actions.js';
import { AlertEvaluator } from './alert-evaluator.entity.js';
import { AlertRule } from './alert-rule.entity.js';
import { AlertSilence } from './alert-silence.entity.js';
import { AlertState } from './alert-state.entity.js';
import { AlertSweep } from './alert-sweep.js';
import { AlertWriter } from './alert-writer.js';
import { Alert } from './alert.entity.js';
import { AlertsController } from './alerts.controller.js';
import { AlertRaised, AlertResolved, ThresholdExceeded } from './alerts.events.js';
import { SweepAlerts } from './alerts.jobs.js';
import { AlertsService } from './alerts.service.js';
import { AlertSettings } from './alerts.settings.js';
import { EvaluationRecord } from './evaluation-record.js';
import { Evaluator } from './evaluator.js';
import { OpenGroups } from './open-groups.js';
import { Rejudge } from './rejudge.js';
import { RuleRights } from './rule-rights.js';
import { RuleSet } from './rule-set.js';
import { RuleTrial } from './rule-trial.js';
import { RulesController } from './rules.controller.js';
import { RulesService } from './rules.service.js';
import { SilencesController } from './silences.controller.js';
import { SilencesService } from './silences.service.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    alert: 'alert';
    rule: 'alert rule';
    silence: 'silence';
  }
}

/** Rules over telemetry and the alerts they raise. */
@Module({
  imports: [
    EventsModule.forFeature({
      events: [AlertRaised, AlertResolved, ThresholdExceeded],
      families: [{ types: ['telemetry.*', 'metric.*'], channel: 'system.alerts', scope: 'telemetry:read' }],
    }),
    JobsModule.forFeature([SweepAlerts]),
    HttpModule.forFeature({ tags: { alerts: 'Rules over telemetry, the alerts they raise, and silences' } }),
    DatabaseModule.forFeature([AlertEvaluator, AlertRule, AlertSilence, AlertState, Alert]),
    TelemetryModule,
    CommandsModule,
    WebhooksModule,
    RetentionModule.forFeature([
      {
        entity: Alert,
        column: 'clearedAt',
        days: (settings) => settings.get(AlertSettings).retentionDays,
        where: { status: 'cleared' },
      },
      { entity: AlertSilence, column: 'endsAt', days: (settings) => settings.get(AlertSettings).retentionDays },
    ]),
  ],
  controllers: [RulesController, AlertsController, SilencesController],
  providers: [
    Absences,
    AlertActions,
    AlertSweep,
    AlertWriter,
    AlertsService,
    EvaluationRecord,
    Evaluator,
    OpenGroups,
    Rejudge,
    RuleRights,
    RuleSet,
    RuleTrial,
    RulesService,
    SilencesService,
  ],
})
export class AlertsModule implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly metrics: Metrics,
    private readonly health: HealthRegistry,
  ) {}

  onModuleInit(): void {
    const { db } = this;
    const active = (): Promise<number> => db.repository(Alert).countBy({ status: 'active' });
    this.metrics.sharedGauge('nexus_alerts_active', 'Alerts that have not been cleared', [], async function () {
      this.set(await active());
    });
    this.health.register('alerts', async () => ({ active: await active() }));
  }
}
