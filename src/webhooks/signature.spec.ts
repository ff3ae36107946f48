import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { signatureHeaders } from './signature.js';

describe('signatures of deliveries', () => {
  it('are those of the test vector of Standard Webhooks', () => {
    const message = {
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      timestamp: 1614265330,
      body: Buffer.from('{"test": 2432232314}'),
    };
    const headers = signatureHeaders(message, ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']);
    expect(headers).toMatchObject({
      'webhook-id': message.id,
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });

  it('cover the exact bytes, with each secret while one replaces another', () => {
    const body = Buffer.from([0x7b, 0xc3, 0xa4, 0x7d]);
    const headers = signatureHeaders({ id: 'evt_1', timestamp: 1, body }, ['new secret', 'old secret']);
    const hex = (secret: string): string => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
    expect(headers['x-nexus-signature']).toBe(hex('new secret'));
    expect(headers['x-nexus-signature-previous']).toBe(hex('old secret'));
    expect(headers['webhook-signature'].split(' ')).toHaveLength(2);
  });
});
