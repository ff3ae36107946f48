/** A message of PostgreSQL's wire protocol, for servers that do what a real one rarely does. */
export function message(type: string, ...parts: (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}
export const int16 = (n: number): Buffer => Buffer.from(Int16Array.of(n).buffer).swap16();
export const int32 = (n: number): Buffer => Buffer.from(Int32Array.of(n).buffer).swap32();

/** Ready for a query, in no transaction. */
export const READY = message('Z', 'I');
