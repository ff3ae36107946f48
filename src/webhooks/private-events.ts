const PRIVATE = ['user.', 'token.', 'security.', 'session.'];

/** Events about people, their logins and their credentials: for those alone who may read accounts (`user:read`). */
export function isPrivateEvent(type: string): boolean {
  return PRIVATE.some((prefix) => type.startsWith(prefix));
}
