import { randomFillSync } from 'node:crypto';

const SAFE_REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/;
/** Random bytes are generated in bulk, because small amounts are expensive. */
const RANDOM = Buffer.allocUnsafe(16 * 1024);
let used = RANDOM.length;
const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** The `X-Request-ID` of the caller when it is safe to repeat, else a new `req_<ULID>`. */
export function requestIdOf(header: string | string[] | undefined): string {
  if (typeof header === 'string' && SAFE_REQUEST_ID.test(header)) return header;
  let time = Date.now();
  let id = '';
  for (let i = 0; i < 10; i++) {
    id = CROCKFORD[time % 32] + id;
    time = Math.floor(time / 32);
  }
  if (used + 16 > RANDOM.length) {
    randomFillSync(RANDOM);
    used = 0;
  }
  for (const end = used + 16; used < end; used++) id += CROCKFORD[RANDOM[used] & 31];
  return `req_${id}`;
}
