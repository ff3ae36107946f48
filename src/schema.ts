import { CreateAgentSigningKeys1763950000000 } from './agents/agent-signing-keys.migration.js';
import { NoteJoinTokenOwners1764030000000 } from './agents/join-token-owners.migration.js';
import { CreateAgents1763700500000 } from './agents/agents.migration.js';
import { NameCommandTargets1763970100000 } from './commands/command-targets.migration.js';
import { NoteJoinNonces1764000000000 } from './agents/join-nonces.migration.js';
import { CreateCommands1763700600000 } from './commands/commands.migration.js';
import { CreateEventSubscriptions1763710200000 } from './events/event-subscriptions.migration.js';
import { NoteSubscriptionOwners1763962000000 } from './events/subscription-owners.migration.js';
import { CreateBackgroundTasks1763720000000 } from './platform/background/index.js';
import { OrderEventsOfOneTime1763780000000 } from './alerts/alert-order.migration.js';
import { CreateAlerts1763730000000 } from './alerts/alerts.migration.js';
import { NoteRuleOwners1763961000000 } from './alerts/rule-owners.migration.js';
import { NoteHookOwners1764030100000 } from './hooks/hook-owners.migration.js';
import { CreateHooks1763741000000 } from './hooks/hooks.migration.js';
import type { Schema } from './platform/database/index.js';
import {
  CreateDeadLetters1763720100000,
  CreateEventCheckpoints1763930100000,
  CreateEvents1763700000000,
  ExtendEvents1763710000000,
  NoteRemovedEvents1763720300000,
} from './platform/events/index.js';
import { CreateDeletions1763770000000, CreateIdempotencyKeys1763700050000 } from './platform/http/index.js';
import { CreateScheduleClaims1764020000000, CreateScheduleRuns1763930000000 } from './platform/jobs/index.js';
import { CreateSecurityAlerts1763740000000 } from './security/alerts/alerts.migration.js';
import { IndexAuditFailures1763701900000 } from './security/audit-failures.migration.js';
import { CountAuditByNetwork1763920100000 } from './security/audit-minute-network.migration.js';
import { KeepLoginNetworks1763920200000 } from './security/accounts/login-networks.migration.js';
import { PartitionAudit1763920000000 } from './security/audit-partitions.migration.js';
import { CreateAudit1763700100000 } from './security/audit.migration.js';
import { NoteCredentialParents1763960000000 } from './security/keys/credential-parents.migration.js';
import { CreateMasterKeyProbe1763930300000 } from './security/master-keys/master-key-probe.migration.js';
import { KeepMasterKeysInUse1764040000000 } from './security/master-keys/master-keys-in-use.migration.js';
import { CreateSecurity1763700200000 } from './security/security.migration.js';
import { CreateStreamTickets1763702000000 } from './streaming/streaming.migration.js';
import { KeepOldTelemetry1763970000000 } from './telemetry/old-events.migration.js';
import { CreateWriteProbe1763930200000 } from './system/write-probe.migration.js';
import { CreateMetricsReporter1763940000000 } from './system/metrics-reporter.migration.js';
import { CreateTelemetry1763700400000 } from './telemetry/telemetry.migration.js';
import { AllowCancelledDeliveries1763963000000 } from './webhooks/cancelled-deliveries.migration.js';
import { JoinDeliveryIndexes1763800100000 } from './webhooks/delivery-indexes.migration.js';
import { NoteDeliveryInfo1763980000000 } from './webhooks/delivery-info.migration.js';
import { ExtendWebhooks1763710100000 } from './webhooks/managed-webhooks.migration.js';
import { NoteWebhookHolders1763800000000 } from './webhooks/webhook-holders.migration.js';
import { MarkReplayedDeliveries1763720200000 } from './webhooks/webhook-replays.migration.js';
import { CreateWebhooks1763700720000 } from './webhooks/webhooks.migration.js';

/** The whole schema: every entity, and every migration in the order it is run. One line per entry, oldest first. */
export const schema: Schema = {
  entities: [],
  migrations: [
    CreateEvents1763700000000,
    CreateIdempotencyKeys1763700050000,
    CreateAudit1763700100000,
    CreateSecurity1763700200000,
    CreateTelemetry1763700400000,
    CreateAgents1763700500000,
    CreateCommands1763700600000,
    CreateWebhooks1763700720000,
    IndexAuditFailures1763701900000,
    CreateStreamTickets1763702000000,
    ExtendEvents1763710000000,
    ExtendWebhooks1763710100000,
    CreateEventSubscriptions1763710200000,
    CreateBackgroundTasks1763720000000,
    CreateDeadLetters1763720100000,
    MarkReplayedDeliveries1763720200000,
    NoteRemovedEvents1763720300000,
    CreateAlerts1763730000000,
    CreateSecurityAlerts1763740000000,
    CreateHooks1763741000000,
    CreateDeletions1763770000000,
    OrderEventsOfOneTime1763780000000,
    NoteWebhookHolders1763800000000,
    JoinDeliveryIndexes1763800100000,
    PartitionAudit1763920000000,
    CountAuditByNetwork1763920100000,
    KeepLoginNetworks1763920200000,
    CreateScheduleRuns1763930000000,
    CreateEventCheckpoints1763930100000,
    CreateWriteProbe1763930200000,
    CreateMasterKeyProbe1763930300000,
    CreateMetricsReporter1763940000000,
    CreateAgentSigningKeys1763950000000,
    NoteCredentialParents1763960000000,
    NoteRuleOwners1763961000000,
    NoteSubscriptionOwners1763962000000,
    AllowCancelledDeliveries1763963000000,
    KeepOldTelemetry1763970000000,
    NameCommandTargets1763970100000,
    NoteDeliveryInfo1763980000000,
    NoteJoinNonces1764000000000,
    CreateScheduleClaims1764020000000,
    NoteJoinTokenOwners1764030000000,
    NoteHookOwners1764030100000,
    KeepMasterKeysInUse1764040000000,
  ],
  filledByMigrations: ['command_types', 'event_store_marker', 'events_removed'],
};
