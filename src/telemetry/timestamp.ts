const TIMESTAMP = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)$/;

/** `2026-11-21T09:13:`: events that come together share it, so it is worked out once for many of them. */
const MINUTE_CHARACTERS = 17;
let minute = '';
let minuteMs = NaN;

/** ISO 8601 with a time zone to ms since 1970, NaN when it is not. Fractions beyond milliseconds are cut. */
export function parseTimestamp(text: unknown): number {
  if (typeof text !== 'string') return NaN;
  // What nearly every client sends: `2026-11-21T09:13:14.123Z`.
  if (text.length === 24 && text.charCodeAt(23) === 0x5a /* Z */ && text.charCodeAt(19) === 0x2e /* . */) {
    if (!text.startsWith(minute) || minute === '') {
      const start = parseAny(`${text.slice(0, MINUTE_CHARACTERS)}00Z`);
      // Of the hour 24 only the first moment is one.
      if (Number.isNaN(start) || text.startsWith('24', 11)) return parseAny(text);
      minute = text.slice(0, MINUTE_CHARACTERS);
      minuteMs = start;
    }
    const ms =
      (digit(text, 17) * 10 + digit(text, 18)) * 1000 + digit(text, 20) * 100 + digit(text, 21) * 10 + digit(text, 22);
    if (ms < 60_000) return minuteMs + ms;
  }
  return parseAny(text);
}

/** Value of a decimal digit; of anything else NaN. */
function digit(text: string, at: number): number {
  const value = text.charCodeAt(at) - 0x30;
  return value >= 0 && value <= 9 ? value : NaN;
}

function parseAny(text: string): number {
  const parts = TIMESTAMP.exec(text);
  if (!parts) return NaN;
  // Date.parse lets the 30th of February pass.
  const day = Number(parts[3]);
  if (day > 28 && day > new Date(Date.UTC(Number(parts[1]), Number(parts[2]), 0)).getUTCDate()) return NaN;
  return Date.parse(text);
}
