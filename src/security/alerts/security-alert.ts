import { publicId } from '../../platform/http/index.js';
import type { AlertSeverity, AlertType } from './alert-rules.js';
import type { SecurityAlertDto } from './alerts.dto.js';

/** A row of `security_alerts`. */
export interface AlertRow {
  id: string;
  type: AlertType;
  subject: string;
  severity: AlertSeverity;
  message: string;
  details: Record<string, unknown>;
  occurrences: number;
  created_at: Date;
  last_seen_at: Date;
  acknowledged_at: Date | null;
  acknowledged_by: string | null;
}

export function toAlertDto({ id, created_at, last_seen_at, acknowledged_at, ...row }: AlertRow): SecurityAlertDto {
  return {
    id: publicId('alert', id),
    timestamp: created_at.toISOString(),
    ...row,
    last_seen_at: last_seen_at.toISOString(),
    acknowledged_at: acknowledged_at?.toISOString() ?? null,
  };
}
