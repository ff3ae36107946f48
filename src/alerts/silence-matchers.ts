/** What an alert must be like to be silenced; what is left out fits every alert. */
export interface Matchers {
  rule_ids?: string[];
  severities?: string[];
  /** Names or patterns with `*`. */
  sources?: string[];
  tags?: Record<string, string>;
}
