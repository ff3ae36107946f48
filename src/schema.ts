import { AgentSigningKey } from './agents/agent-signing-key.entity.js';
import { Agent } from './agents/agent.entity.js';
import { JoinToken } from './agents/join-token.entity.js';
import { AlertEvaluator } from './alerts/alert-evaluator.entity.js';
import { AlertRule } from './alerts/alert-rule.entity.js';
import { AlertSilence } from './alerts/alert-silence.entity.js';
import { AlertState } from './alerts/alert-state.entity.js';
import { Alert } from './alerts/alert.entity.js';
import { CommandOutput } from './commands/command-output.entity.js';
import { CommandType } from './commands/command-type.entity.js';
import { Command } from './commands/command.entity.js';
import { EventSubscription } from './events/event-subscription.entity.js';
import { HookReceipt } from './hooks/hook-receipt.entity.js';
import { Hook } from './hooks/hook.entity.js';
import { BackgroundTaskLog } from './platform/background/background-task-log.entity.js';
import { BackgroundTask } from './platform/background/background-task.entity.js';
import { DeadLetter } from './platform/events/dead-letter.entity.js';
import { EventCheckpoint } from './platform/events/event-checkpoint.entity.js';
import { EventStoreMarker } from './platform/events/event-store-marker.entity.js';
import { DomainEvent } from './platform/events/event.entity.js';
import { EventsRemoved } from './platform/events/events-removed.entity.js';
import { Deletion } from './platform/http/deletion.entity.js';
import { IdempotencyKey } from './platform/http/idempotency-key.entity.js';
import { ScheduleClaim } from './platform/jobs/schedule-claim.entity.js';
import { ScheduleRun } from './platform/jobs/schedule-run.entity.js';
import { LoginAttempt } from './security/accounts/login-attempt.entity.js';
import { LoginNetwork } from './security/accounts/login-network.entity.js';
import { RefreshToken } from './security/accounts/refresh-token.entity.js';
import { Session } from './security/accounts/session.entity.js';
import { User } from './security/accounts/user.entity.js';
import { SecurityAlert } from './security/alerts/security-alert.entity.js';
import { SecuritySignal } from './security/alerts/security-signal.entity.js';
import { AuditEntry } from './security/audit-entry.entity.js';
import { AuditMinute } from './security/audit-minute.entity.js';
import { Credential } from './security/keys/credential.entity.js';
import { MasterKeyProbe } from './security/master-keys/master-key-probe.entity.js';
import { Role } from './security/roles/role.entity.js';
import { StreamTicket } from './streaming/stream-ticket.entity.js';
import { MetricsReporter } from './system/metrics-reporter.entity.js';
import { WriteProbe } from './system/write-probe.entity.js';
import { DirtyBucket } from './telemetry/dirty-bucket.entity.js';
import { TelemetryBatch } from './telemetry/telemetry-batch.entity.js';
import { TelemetryEvent } from './telemetry/telemetry-event.entity.js';
import { TelemetryRollup } from './telemetry/telemetry-rollup.entity.js';
import { TelemetrySeries } from './telemetry/telemetry-series.entity.js';
import { WebhookAttempt } from './webhooks/webhook-attempt.entity.js';
import { WebhookBatchItem } from './webhooks/webhook-batch-item.entity.js';
import { WebhookDelivery } from './webhooks/webhook-delivery.entity.js';
import { Webhook } from './webhooks/webhook.entity.js';
import { migrations } from '../migrations/index.js';
import type { Schema } from './platform/database/index.js';

/** Entities and migrations of the whole database, for the server and for the TypeORM CLI alike. */
export const schema: Schema = {
  entities: [
    AgentSigningKey,
    Agent,
    JoinToken,
    AlertEvaluator,
    AlertRule,
    AlertSilence,
    AlertState,
    Alert,
    CommandOutput,
    CommandType,
    Command,
    EventSubscription,
    HookReceipt,
    Hook,
    BackgroundTaskLog,
    BackgroundTask,
    DeadLetter,
    EventCheckpoint,
    EventStoreMarker,
    DomainEvent,
    EventsRemoved,
    Deletion,
    IdempotencyKey,
    ScheduleClaim,
    ScheduleRun,
    LoginAttempt,
    LoginNetwork,
    RefreshToken,
    Session,
    User,
    SecurityAlert,
    SecuritySignal,
    AuditEntry,
    AuditMinute,
    Credential,
    MasterKeyProbe,
    Role,
    StreamTicket,
    MetricsReporter,
    WriteProbe,
    DirtyBucket,
    TelemetryBatch,
    TelemetryEvent,
    TelemetryRollup,
    TelemetrySeries,
    WebhookAttempt,
    WebhookBatchItem,
    WebhookDelivery,
    Webhook,
  ],
  migrations,
  filledByMigrations: ['command_types', 'event_store_marker', 'events_removed'],
};
