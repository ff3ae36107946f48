import type { EventFamily } from '../platform/events/index.js';

/** Names and channels kept for domains that do not exist yet; each takes its lines along when it comes. */
export const FAMILIES_TO_COME: readonly EventFamily[] = [
  { types: ['task.created'], channel: 'tasks.created', scope: 'task:read' },
  { types: ['task.*'], channel: 'tasks.updates', scope: 'task:read' },
  { types: ['ai.request_*'], channel: 'ai.requests', scope: 'ai:read' },
  { types: ['ai.workflow_*'], channel: 'ai.coordination', scope: 'ai:read' },
  { types: ['system.alert', 'system.error'], channel: 'system.alerts', scope: 'system:read' },
  { types: ['plugin.*'], channel: 'plugins.events', scope: 'plugin:read' },
  { types: ['job.*'], channel: 'jobs.events', scope: 'job:read' },
  { types: ['workflow.*'], channel: 'workflows.events', scope: 'workflow:read' },
  { types: ['session.*'], channel: 'sessions.events', scope: 'session:read' },
  {
    types: [
      ...['system.*', 'config.*', 'service.*', 'backup.*', 'restore.*'],
      ...['audit.*', 'batch.*', 'event.*', 'nexus.*'],
    ],
    channel: 'system.events',
    scope: 'system:read',
  },
];
