/** Longest string kept in a log line, in characters. */
const MAX_TEXT = 1000;
const MAX_DEPTH = 5;
const MAX_ITEMS = 50;
const MASK = '***masked***';

/** Names of fields whose values are nobody's business; `key_id`, `token_type` and the like say nothing secret, nor do numbers. */
const SECRET =
  /^(key|cookies?|set-cookie|otp|pin|jwt)$|pass(word|phrase|wd)|secret|authori[sz]ation(?!_)|credential(?!_?(id|name|type)s?$)|(api|access|private|master|signing|encryption)[_-]?keys?$|tokens?$/i;

/** Credentials inside text: of a URL, of an Authorization header, and Nexus's own keys. */
const IN_TEXT: [RegExp, string][] = [
  [/(\/\/[^\s/:@]*):[^\s/@]+@/g, `$1:${MASK}@`],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${MASK}`],
  [/\bnexus_([a-z]+)_[A-Za-z0-9_]{12,}/g, `nexus_$1_${MASK}`],
];

/** A copy of what is to be logged, without secrets and of bounded size. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (value instanceof Error) return redactText(value.stack ?? value.message);
  if (depth >= MAX_DEPTH) return '…';
  if (Buffer.isBuffer(value)) return `${value.length} bytes`;
  if (Array.isArray(value)) return value.slice(0, MAX_ITEMS).map((item) => redact(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, MAX_ITEMS)
      .map(([name, item]) => [name, isSecret(name, item) ? MASK : redact(item, depth + 1)]),
  );
}

function isSecret(name: string, value: unknown): boolean {
  return SECRET.test(name) && (typeof value === 'string' || (typeof value === 'object' && value !== null));
}

/** Cut after masking: half a secret must not escape its pattern. */
export function redactText(text: string): string {
  const masked = IN_TEXT.reduce((rest, [pattern, mask]) => rest.replace(pattern, mask), text.slice(0, 4 * MAX_TEXT));
  return masked.length > MAX_TEXT ? `${masked.slice(0, MAX_TEXT)}…` : masked;
}
