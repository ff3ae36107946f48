const PRIVATE = ['user.', 'token.', 'security.', 'session.'];

/** True for events about users, their logins and their credentials. Only callers with `user:read` may receive them. */
export function isPrivateEvent(type: string): boolean {
  return PRIVATE.some((prefix) => type.startsWith(prefix));
}
