import type { IncomingHttpHeaders } from 'node:http';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../platform/errors/index.js';
import { presentedCredential } from './presented-credential.js';

const KEY = 'nexus_api_abcdefgh_secret_crc';
const refusal = (headers: IncomingHttpHeaders): AppError => {
  try {
    presentedCredential(headers);
  } catch (error) {
    if (error instanceof AppError) return error;
  }
  throw new Error('was not refused');
};

describe('presentedCredential', () => {
  it('sorts a bearer by its shape', () => {
    expect(presentedCredential({ authorization: `Bearer ${KEY}` })).toEqual({ kind: 'key', text: KEY });
    expect(presentedCredential({ authorization: `bearer  ${KEY}` })).toEqual({ kind: 'key', text: KEY });
    expect(presentedCredential({ 'x-api-key': KEY })).toEqual({ kind: 'key', text: KEY });
    expect(presentedCredential({ authorization: 'Bearer a.b.c' })).toEqual({ kind: 'jwt', text: 'a.b.c' });
  });

  it('takes the same credential twice, but not two', () => {
    expect(presentedCredential({ authorization: `Bearer ${KEY}`, 'x-api-key': KEY }).text).toBe(KEY);
    expect(refusal({ authorization: 'Bearer a.b.c', 'x-api-key': KEY }).status).toBe(400);
    expect(refusal({ 'x-api-key': `${KEY}, ${KEY}x` }).status).toBe(400);
    expect(refusal({ authorization: `Bearer ${KEY}, Bearer a.b.c` }).status).toBe(400);
    expect(refusal({ authorization: `Basic YTpi, Bearer ${KEY}` }).status).toBe(400);
  });

  it('refuses what is none', () => {
    expect(refusal({})).toMatchObject({ status: 401, type: 'CREDENTIALS_MISSING' });
    for (const headers of [
      { authorization: '' },
      { authorization: 'Bearer' },
      { authorization: 'Basic YTpi' },
      { authorization: `Token ${KEY}` },
      { authorization: 'Bearer a.b' },
      { authorization: 'Digest username="a", realm="b"' },
      { authorization: `Bearer ${KEY} ${KEY}` },
      { authorization: `Bearer ${'a'.repeat(9000)}.b.c` },
      { 'x-api-key': '' },
      { 'x-api-key': 'a.b.c' },
    ]) {
      expect(refusal(headers)).toMatchObject({ status: 401, type: 'TOKEN_INVALID' });
    }
  });
});
