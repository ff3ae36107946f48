import { publicId } from '../../platform/ids/index.js';
import type { SecurityAlertDto } from './alerts.dto.js';
import type { SecurityAlert } from './security-alert.entity.js';

export function toAlertDto(alert: SecurityAlert): SecurityAlertDto {
  return {
    id: publicId('alert', alert.id),
    timestamp: alert.createdAt.toISOString(),
    type: alert.type,
    subject: alert.subject,
    severity: alert.severity,
    message: alert.message,
    details: alert.details,
    occurrences: alert.occurrences,
    last_seen_at: alert.lastSeenAt.toISOString(),
    acknowledged_at: alert.acknowledgedAt?.toISOString() ?? null,
    acknowledged_by: alert.acknowledgedBy,
  };
}
