/** Longest number, in characters, that is sure to fit the database's numbers; without an exponent that is. */
const LONGEST_NUMBER = 100;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Depth of the containers that are an event, and of its `data`, in `{"events": [{"data": {}}]}`. */
const EVENT_DEPTH = 3;
const DATA_DEPTH = EVENT_DEPTH + 1;

/**
 * Finds the `data` of each event in the bytes of a batch, so that it can go to the database as it came: begin of that of
 * event n at `2n`, end at `2n + 1`, both 0 for an event without one. `body` must be valid JSON that holds `count` events.
 * @returns null when something is unusual enough that positions or values might not be those of the parsed body
 */
export function locateData(body: Buffer, count: number): Int32Array | null {
  const spans = new Int32Array(count * 2);
  const { length } = body;
  let depth = 0;
  let lists = 0;
  let event = -1;
  let begin = 0;
  // The string read last: before a container inside an event it is the key.
  let from = 0;
  let to = 0;
  for (let i = 0; i < length; i++) {
    const c = body[i];
    if (c === QUOTE) {
      from = i + 1;
      for (i = from; body[i] !== QUOTE; i++) {
        if (body[i] !== BACKSLASH) continue;
        // The key might be `data`, written otherwise.
        if (depth <= EVENT_DEPTH) return null;
        i++;
      }
      to = i;
    } else if (c === 0x7b /* { */ || c === 0x5b /* [ */) {
      depth++;
      if (depth === EVENT_DEPTH - 1) lists++;
      else if (depth === EVENT_DEPTH) event++;
      else if (depth === DATA_DEPTH) begin = to - from === 4 && body.readUInt32BE(from) === DATA ? i : 0;
    } else if (c === 0x7d /* } */ || c === 0x5d /* ] */) {
      if (depth === DATA_DEPTH && begin > 0) {
        spans[2 * event] = begin;
        spans[2 * event + 1] = i + 1;
      }
      depth--;
    } else if (c >= 0x30 && c <= 0x39) {
      const start = i;
      for (; ; i++) {
        const next = body[i + 1];
        if ((next | 0x20) === 0x65 /* e */) return null;
        if (next !== 0x2e /* . */ && !(next >= 0x30 && next <= 0x39)) break;
      }
      if (i - start >= LONGEST_NUMBER) return null;
    }
  }
  // Otherwise a key came twice, or an item is no container: the counts would not be those of the parsed events.
  return lists === 1 && event + 1 === count ? spans : null;
}

/** The word `data` as its four bytes. */
const DATA = Buffer.from('data').readUInt32BE();
