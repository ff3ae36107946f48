import { isUtf8 } from 'node:buffer';

/** Bounds of a parsed body. */
export interface BodyLimits {
  /** Levels of objects and arrays. */
  maxDepth: number;
  /** Keys of all objects together. */
  maxKeys: number;
  /** Values of all objects and arrays together. An empty list costs the parser as much as a key, but only two bytes to send. */
  maxValues: number;
  /** Characters (UTF-16 units) of one key. */
  maxKeyLength: number;
  /** `false` admits integers that a double cannot hold exactly. They lose digits. */
  exactIntegers?: boolean;
}

export interface BodyProblem {
  /** The place, e.g. `items[3].data.__proto__`; empty for the whole body. It is shortened and free of control characters. */
  path: string;
  reason: string;
  code:
    | 'DANGEROUS_KEY'
    | 'TOO_DEEP'
    | 'TOO_MANY_KEYS'
    | 'TOO_MANY_VALUES'
    | 'KEY_TOO_LONG'
    | 'INVALID_TEXT'
    | 'INVALID_NUMBER'
    | 'INVALID_JSON';
}

/** Keys that could change a prototype or class in JavaScript or Python. Every key that starts with two underscores is refused too. */
const DANGEROUS = new Set(['prototype', 'constructor', 'eval', 'exec', 'compile']);

const LONGEST_DANGEROUS = 11;
const DANGEROUS_BY_LENGTH = Array.from({ length: LONGEST_DANGEROUS + 1 }, (_, length) =>
  [...DANGEROUS].filter((word) => word.length === length).map((word) => Buffer.from(word)),
);
const LONE_SURROGATE = /\p{Surrogate}/u;
const PLAIN_KEY = /^[\p{L}_$][\p{L}\p{N}_$-]*$/u;
const LONGEST_PATH = 200;
const LONGEST_KEY_SHOWN = 64;

type Finding = Pick<BodyProblem, 'reason' | 'code'>;

interface Node {
  value: object;
  depth: number;
  parent: Node | null;
  /** Key or index under the parent. */
  key: string | number;
}

/**
 * Searches plain data (a tree) for forbidden content. Returns the first problem or null. It does not recurse, so that any
 * nesting is safe.
 */
export function findBodyProblem(value: unknown, limits: BodyLimits): BodyProblem | null {
  const open: Node[] = [];
  let keysLeft = limits.maxKeys;
  const look = (child: unknown, parent: Node | null, key: string | number): BodyProblem | null => {
    const finding = (typeof key === 'string' && parent ? keyFinding(key, limits) : null) ?? leafFinding(child);
    if (finding) return { path: pathOf(parent, key), ...finding };
    if (typeof child !== 'object' || child === null) return null;
    const depth = parent ? parent.depth + 1 : 1;
    if (depth > limits.maxDepth) return { path: pathOf(parent, key), ...tooDeep(limits) };
    open.push({ value: child, depth, parent, key });
    return null;
  };

  let problem = look(value, null, '');
  for (let node = open.pop(); node && !problem; node = open.pop()) {
    if (Array.isArray(node.value)) {
      const list = node.value as unknown[];
      for (let i = 0; i < list.length && !problem; i++) problem = look(list[i], node, i);
      continue;
    }
    const keys = Object.keys(node.value);
    keysLeft -= keys.length;
    if (keysLeft < 0) return { path: pathOf(node.parent, node.key), ...tooManyKeys(limits) };
    for (let i = 0; i < keys.length && !problem; i++) {
      problem = look((node.value as Record<string, unknown>)[keys[i]], node, keys[i]);
    }
  }
  return problem;
}

/**
 * Parses JSON text and refuses what {@link findBodyProblem} refuses, numbers that a double cannot hold, and text that is not
 * UTF-8. Depth, keys and values are first counted on the raw bytes, so that an oversized structure is refused before it is built. The
 * same pass tells whether the parsed value needs a closer check, so that ordinary bodies are not walked again.
 */
export function parseJsonBody(
  text: string | Buffer,
  limits: BodyLimits,
): { value: unknown } | { problem: BodyProblem } {
  if (typeof text === 'string' ? LONE_SURROGATE.test(text) : !isUtf8(text)) {
    return { problem: { path: '', reason: 'is not valid Unicode text', code: 'INVALID_TEXT' } };
  }
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const scan = scanJson(bytes, limits);
  if (typeof scan === 'object') return { problem: { path: pathAt(bytes, scan.at), ...scan.finding } };

  let value: unknown;
  try {
    value = JSON.parse(typeof text === 'string' ? text : text.toString());
  } catch (error) {
    // The message of the JavaScript engine quotes the body, which may contain secrets.
    const at = / at position (\d+)/.exec((error as Error).message)?.[1];
    const reason = at ? `is not valid JSON (at position ${at})` : 'is not valid JSON';
    return { problem: { path: '', reason, code: 'INVALID_JSON' } };
  }
  const problem = scan === 'suspicious' ? findBodyProblem(value, limits) : null;
  return problem ? { problem } : { value };
}

const QUOTE = 0x22;
const COLON = 0x3a;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const UNDERSCORE = 0x5f;
const LETTER_U = 0x75;

/**
 * Scans JSON bytes, valid or not, in one pass. It never misses what {@link findBodyProblem} would refuse in the parsed value, but may
 * call a harmless body suspicious. Ingest depends on its speed: about a nanosecond a byte, without allocation.
 */
function scanJson(bytes: Buffer, limits: BodyLimits): 'clean' | 'suspicious' | { at: number; finding: Finding } {
  const { length } = bytes;
  const { maxDepth, maxKeys, maxValues, maxKeyLength } = limits;
  let suspicious = false;
  let depth = 0;
  let keys = 0;
  let values = 0;
  let start = 0; // of the last string
  let end = 0;
  for (let i = 0; i < length; i++) {
    const c = bytes[i];
    if (c === QUOTE) {
      start = i + 1;
      let escaped = false;
      for (i = start; i < length; i++) {
        const s = bytes[i];
        if (s === QUOTE) break;
        if (s !== BACKSLASH) continue;
        escaped = true;
        if (bytes[++i] !== LETTER_U) continue;
        const unit = unitAt(bytes, i + 1);
        i += 4;
        if (unit === 0 || isLow(unit)) suspicious = true;
        else if (isHigh(unit)) {
          if (bytes[i + 1] === BACKSLASH && bytes[i + 2] === LETTER_U && isLow(unitAt(bytes, i + 3))) i += 6;
          else suspicious = true;
        }
      }
      end = i;
      if (escaped && isKey(bytes, end)) suspicious = true;
    } else if (c === COLON) {
      if (++keys > maxKeys) return { at: i, finding: tooManyKeys(limits) };
      if (end - start > maxKeyLength || isDangerous(bytes, start, end)) suspicious = true;
    } else if (c === COMMA) {
      if (++values > maxValues) return { at: i, finding: tooManyValues(limits) };
    } else if (c === 0x7b /* { */ || c === 0x5b /* [ */) {
      if (++depth > maxDepth) return { at: i, finding: tooDeep(limits) };
      if (++values > maxValues) return { at: i, finding: tooManyValues(limits) };
    } else if (c === 0x7d /* } */ || c === 0x5d /* ] */) {
      depth--;
    } else if (c >= 0x30 && c <= 0x39) {
      const from = i;
      let exponent = false;
      let fraction = false;
      for (; i + 1 < length; i++) {
        const n = bytes[i + 1];
        if (n >= 0x30 && n <= 0x39) continue;
        if (n === 0x2e /* . */) fraction = true;
        else if ((n | 0x20) === 0x65 /* e */) exponent = true;
        else if (n !== 0x2b /* + */ && n !== 0x2d /* - */) break;
      }
      // Integers of sixteen digits or more may lose digits. Only an exponent or hundreds of digits can exceed the range.
      if (exponent || (i - from >= 15 && (!fraction || i - from > 300))) {
        const finding = numberFinding(bytes.toString('latin1', from, i + 1), limits);
        if (finding) return { at: from, finding };
      }
    }
  }
  return suspicious ? 'suspicious' : 'clean';
}

/** The UTF-16 unit of four hexadecimal digits. For other characters the result is arbitrary, and the parser refuses them. */
function unitAt(bytes: Buffer, at: number): number {
  return (hex(bytes[at]) << 12) | (hex(bytes[at + 1]) << 8) | (hex(bytes[at + 2]) << 4) | hex(bytes[at + 3]);
}

function hex(digit: number): number {
  return digit <= 0x39 ? digit - 0x30 : (digit | 0x20) - 0x57;
}

function isHigh(unit: number): boolean {
  return (unit & 0xfc00) === 0xd800;
}

function isLow(unit: number): boolean {
  return (unit & 0xfc00) === 0xdc00;
}

/** True when a colon follows the string whose closing quote is at `end`. */
function isKey(bytes: Buffer, end: number): boolean {
  let i = end + 1;
  while (bytes[i] <= 0x20) i++;
  return bytes[i] === COLON;
}

function isDangerous(bytes: Buffer, start: number, end: number): boolean {
  if (bytes[start] === UNDERSCORE) return bytes[start + 1] === UNDERSCORE;
  const length = end - start;
  if (length > LONGEST_DANGEROUS) return false;
  for (const word of DANGEROUS_BY_LENGTH[length]) {
    let i = 0;
    while (i < length && bytes[start + i] === word[i]) i++;
    if (i === length) return true;
  }
  return false;
}

function keyFinding(key: string, limits: BodyLimits): Finding | null {
  if (key.length > limits.maxKeyLength) {
    return { reason: `is a key longer than ${limits.maxKeyLength} characters`, code: 'KEY_TOO_LONG' };
  }
  if (key.startsWith('__') || DANGEROUS.has(key)) {
    return { reason: 'is a key that is not allowed', code: 'DANGEROUS_KEY' };
  }
  return textFinding(key);
}

function leafFinding(value: unknown): Finding | null {
  if (typeof value === 'string') return textFinding(value);
  return typeof value === 'number' && !Number.isFinite(value) ? outOfRange() : null;
}

function textFinding(text: string): Finding | null {
  if (text.includes('\0')) return { reason: 'contains a NUL character', code: 'INVALID_TEXT' };
  return LONE_SURROGATE.test(text) ? { reason: 'contains half of a surrogate pair', code: 'INVALID_TEXT' } : null;
}

function numberFinding(token: string, limits: BodyLimits): Finding | null {
  const value = Number(token);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? null : outOfRange();
  if (limits.exactIntegers === false || value <= Number.MAX_SAFE_INTEGER) return null;
  if (!/^\d+$/.test(token) || String(value) === token) return null;
  return { reason: 'is an integer beyond 2^53 that would lose digits; send it as a string', code: 'INVALID_NUMBER' };
}

function outOfRange(): Finding {
  return { reason: 'is a number out of range', code: 'INVALID_NUMBER' };
}

function tooDeep({ maxDepth }: BodyLimits): Finding {
  return { reason: `is nested deeper than ${maxDepth} levels`, code: 'TOO_DEEP' };
}

function tooManyKeys({ maxKeys }: BodyLimits): Finding {
  return { reason: `has more than ${maxKeys} keys`, code: 'TOO_MANY_KEYS' };
}

function tooManyValues({ maxValues }: BodyLimits): Finding {
  return { reason: `has more than ${maxValues} values`, code: 'TOO_MANY_VALUES' };
}

function pathOf(parent: Node | null, key: string | number): string {
  if (!parent) return '';
  const parts = [key];
  for (let node = parent; node.parent; node = node.parent) parts.push(node.key);
  return renderPath(parts.reverse());
}

/** The path to a byte of unparsed JSON text. It is exact when the text before it is valid. */
function pathAt(bytes: Buffer, offset: number): string {
  const parts: (string | number)[] = [];
  for (let i = 0; i < offset; i++) {
    const c = bytes[i];
    if (c === 0x5b /* [ */) parts.push(0);
    else if (c === 0x7b /* { */) parts.push('');
    else if (c === 0x7d /* } */ || c === 0x5d /* ] */) parts.pop();
    else if (c === COMMA && typeof parts.at(-1) === 'number') parts[parts.length - 1] = (parts.at(-1) as number) + 1;
    else if (c === QUOTE) {
      const start = i;
      for (i++; i < offset && bytes[i] !== QUOTE; i++) if (bytes[i] === BACKSLASH) i++;
      if (isKey(bytes, i) && parts.length > 0) parts[parts.length - 1] = keyText(bytes.toString('utf8', start, i + 1));
    }
  }
  return renderPath(parts);
}

function keyText(quoted: string): string {
  try {
    return String(JSON.parse(quoted));
  } catch {
    return '';
  }
}

/** Bounds a path and escapes unusual characters, because it appears in answers, logs and the audit trail. */
function renderPath(parts: (string | number)[]): string {
  let path = '';
  for (const part of parts) {
    if (typeof part === 'number') path += `[${part}]`;
    else {
      const shown = part.slice(0, LONGEST_KEY_SHOWN);
      if (!PLAIN_KEY.test(shown)) path += `[${JSON.stringify(shown)}]`;
      else path += path === '' ? shown : `.${shown}`;
    }
    if (path.length > LONGEST_PATH) return `${path.slice(0, LONGEST_PATH)}...`;
  }
  return path;
}
