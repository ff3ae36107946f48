import { defineEvent, payloadSchema } from '../platform/events/index.js';

const text = { type: 'string' };
const texts = { type: 'array', items: text };

export const UserCreated = defineEvent<{ user_id: string; username: string; roles: string[] }>('user.created', {
  summary: 'A user was created.',
  schema: payloadSchema({ user_id: text, username: text, roles: texts }),
});
export const UserLoggedIn = defineEvent<{ user_id: string; session_id: string; ip_address: string | null }>(
  'user.login',
  {
    summary: 'A user logged in.',
    schema: payloadSchema({ user_id: text, session_id: text, ip_address: { type: ['string', 'null'] } }),
  },
);
export const UserLoggedOut = defineEvent<{ user_id: string; session_id: string }>('user.logout', {
  summary: 'A user logged out.',
  schema: payloadSchema({ user_id: text, session_id: text }),
});
export const TokenCreated = defineEvent<{ token_id: string; name: string; scopes: string[]; owner_id: string }>(
  'token.created',
  {
    summary: 'An API key, access token or agent key was created.',
    schema: payloadSchema({ token_id: text, name: text, scopes: texts, owner_id: text }),
  },
);
export const SecurityAlert = defineEvent<{
  alert_id: string;
  severity: string;
  type: string;
  message: string;
  subject: string;
  occurrences: number;
  timestamp: string;
  details: Record<string, unknown>;
}>('security.alert', {
  summary: 'Failed logins, misused keys, rate abuse or a change of rights that somebody should look at.',
  schema: payloadSchema({
    alert_id: text,
    severity: { enum: ['low', 'medium', 'high', 'critical'] },
    type: { enum: ['login_failures', 'key_misuse', 'unknown_keys', 'rate_abuse', 'privilege_change'] },
    message: text,
    subject: text,
    occurrences: { type: 'integer' },
    timestamp: { type: 'string', format: 'date-time' },
    details: { type: 'object' },
  }),
});
export const TokenRevoked = defineEvent<{ token_id: string; owner_id: string }>('token.revoked', {
  summary: 'An API key, access token or agent key was revoked.',
  schema: payloadSchema({ token_id: text, owner_id: text }),
});
