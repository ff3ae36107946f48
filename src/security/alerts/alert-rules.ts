export const ALERT_SEVERITIES = ['low', 'medium', 'high', 'critical'] as const;
export const ALERT_TYPES = ['login_failures', 'key_misuse', 'unknown_keys', 'rate_abuse', 'privilege_change'] as const;

export type AlertSeverity = (typeof ALERT_SEVERITIES)[number];
export type AlertType = (typeof ALERT_TYPES)[number];

/** What is counted, each per subject. */
export type SignalKind = 'login_address' | 'login_account' | 'dead_key' | 'unknown_key' | 'rate_limited';

export interface SignalRule {
  type: AlertType;
  severity: AlertSeverity;
  /** So many within the window are a burst. */
  threshold: number;
  /** Whole minutes; up to one more is looked at, since counts are kept by the minute. */
  minutes: number;
  /** For people; the subject is named beside it. */
  message: string;
}

/** How many refusals of one kind become a security alert. */
export const SIGNAL_RULES: Readonly<Record<SignalKind, SignalRule>> = {
  login_address: {
    type: 'login_failures',
    severity: 'medium',
    threshold: 5,
    minutes: 5,
    message: 'Repeated failed logins from one address',
  },
  login_account: {
    type: 'login_failures',
    severity: 'high',
    threshold: 5,
    minutes: 5,
    message: 'Repeated failed logins to one account',
  },
  dead_key: {
    type: 'key_misuse',
    severity: 'high',
    threshold: 3,
    minutes: 5,
    message: 'A key that was revoked, has expired or is of a disabled user is used repeatedly',
  },
  unknown_key: {
    type: 'unknown_keys',
    severity: 'high',
    threshold: 3,
    minutes: 5,
    message: 'Well-formed keys that do not exist are tried repeatedly from one address',
  },
  rate_limited: {
    type: 'rate_abuse',
    severity: 'medium',
    threshold: 100,
    minutes: 1,
    message: 'One caller keeps sending requests although its rate limit is used up',
  },
};

const POWERFUL = /^(\*|\*:(admin|write)|admin:.*|[a-z]+:admin|security:.*|user:(write|\*))$/;

/** Those of the scopes that let their holder change who may do what, or the server itself. */
export function powerfulScopes(scopes: readonly string[]): string[] {
  return scopes.filter((scope) => POWERFUL.test(scope));
}
