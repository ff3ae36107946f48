import { createSocket, type Socket } from 'node:dgram';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ResolveHost, systemResolver } from './pinned-connection.js';

/** A name server on loopback: address records per name, `NXDOMAIN` for the rest. */
const RECORDS: Record<string, { a?: number[][]; aaaa?: number[][] }> = {
  'both.example.com': {
    a: [
      [10, 0, 0, 1],
      [8, 8, 8, 8],
    ],
    aaaa: [[0x26, 0x06, ...Array<number>(13).fill(0), 1]],
  },
  'six.example.com': { aaaa: [[...Array<number>(15).fill(0), 1]] },
};

function answer(query: Buffer): Buffer {
  const labels: string[] = [];
  let at = 12;
  for (; query[at] > 0; at += query[at] + 1) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]));
  const question = query.subarray(12, at + 5);
  const type = query.readUInt16BE(at + 1);
  const known = RECORDS[labels.join('.').toLowerCase()] as (typeof RECORDS)[string] | undefined;
  const data = (type === 1 ? known?.a : type === 28 ? known?.aaaa : undefined) ?? [];
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(known ? 0x8180 : 0x8183, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(data.length, 6);
  const records = data.map((bytes) => Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, bytes.length, ...bytes]));
  return Buffer.concat([head, question, ...records]);
}

describe('the system resolver', () => {
  let server: Socket;
  let resolve: ResolveHost;
  beforeEach(async () => {
    server = createSocket('udp4');
    server.on('message', (query, from) => server.send(answer(query), from.port, from.address));
    await new Promise<void>((done) => server.bind(0, '127.0.0.1', done));
    resolve = systemResolver([`127.0.0.1:${server.address().port}`]);
  });
  afterEach(() => new Promise<void>((done) => void server.close(() => done())));

  it('gives every address of both families, so that each can be checked', async () => {
    expect(await resolve('both.example.com')).toEqual([
      { address: '10.0.0.1', family: 4 },
      { address: '8.8.8.8', family: 4 },
      { address: '2606::1', family: 6 },
    ]);
    expect(await resolve('six.example.com')).toEqual([{ address: '::1', family: 6 }]);
  });

  it('fails for a name that is not there', async () => {
    await expect(resolve('none.example.com')).rejects.toMatchObject({ code: 'ENOTFOUND' });
  });

  it('asks the machine itself for local names', async () => {
    expect(await resolve('localhost')).toContainEqual({ address: '127.0.0.1', family: 4 });
  });
});
