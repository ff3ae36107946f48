import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { verifyCall } from './hook-signature.js';

const BODY = Buffer.from('{"a": 1}');
const NOW = 1_700_000_000;
const hex = (secret: string, body = BODY): string =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;

describe('standard signatures', () => {
  // The example of the specification, with its time as now.
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  const example = {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  };
  const body = Buffer.from('{"test": 2432232314}');
  const verify = (headers: object, now = 1614265330, secrets = [secret]): unknown =>
    verifyCall('standard', secrets, { ...example, ...headers }, body, now);

  it('are right for id, time and body together', () => {
    expect(verify({})).toEqual({ messageId: 'msg_p5jXN8AQM9LWM0D4loKWxJek' });
    expect(verify({ 'webhook-id': 'msg_other' })).toBeNull();
    expect(verify({ 'webhook-timestamp': '1614265331' })).toBeNull();
    expect(verify({ 'webhook-signature': 'v1,AAAA' })).toBeNull();
    expect(verifyCall('standard', [secret], example, Buffer.from('{}'), 1614265330)).toBeNull();
  });

  it('count for five minutes, whichever clock is ahead', () => {
    for (const off of [-300, 300]) expect(verify({}, 1614265330 + off)).not.toBeNull();
    for (const off of [-301, 301]) expect(verify({}, 1614265330 + off)).toBeNull();
  });

  it('may be several, of several secrets', () => {
    expect(verify({ 'webhook-signature': `v1a,xyz v1,AAAA ${example['webhook-signature']}` })).not.toBeNull();
    expect(verify({}, 1614265330, ['new-secret', secret])).not.toBeNull();
    expect(verify({}, 1614265330, ['new-secret'])).toBeNull();
  });

  it.each([
    { 'webhook-id': undefined },
    { 'webhook-timestamp': undefined },
    { 'webhook-signature': undefined },
    { 'webhook-timestamp': '1614265330.0' },
    { 'webhook-timestamp': '-1' },
  ])('miss nothing: %o', (headers) => {
    expect(verify(headers)).toBeNull();
  });

  it('are refused with a key that could be guessed', () => {
    const signed = createHmac('sha256', '').update('msg_1.1614265330.').update(body).digest('base64');
    const headers = { 'webhook-id': 'msg_1', 'webhook-signature': `v1,${signed}` };
    expect(verify(headers, 1614265330, ['whsec_!!!!!!!!!!!!'])).toBeNull();
  });

  it('cannot be moved along the text that is signed', () => {
    const signed = createHmac('sha256', 'key').update(`a.b.${NOW}.{}`).digest('base64');
    const headers = { 'webhook-id': 'a.b', 'webhook-timestamp': String(NOW), 'webhook-signature': `v1,${signed}` };
    expect(verifyCall('standard', ['key'], headers, Buffer.from('{}'), NOW)).toBeNull();
  });
});

describe('signatures of the body alone', () => {
  it.each([
    ['nexus', 'x-nexus-signature', 'webhook-id'],
    ['github', 'x-hub-signature-256', 'x-github-delivery'],
  ] as const)('of %s are in %s', (scheme, header, id) => {
    const call = (headers: Record<string, string>): unknown => verifyCall(scheme, ['old', 'new'], headers, BODY, NOW);
    expect(call({ [header]: hex('new') })).toEqual({ messageId: null });
    expect(call({ [header]: hex('old'), [id]: 'message-1' })).toEqual({ messageId: 'message-1' });
    expect(call({ [header]: hex('other') })).toBeNull();
    expect(call({ [header]: hex('new', Buffer.from('{"a":1}')) })).toBeNull();
    expect(call({ [header]: hex('new').toUpperCase() })).toBeNull();
    expect(call({})).toBeNull();
  });

  it('of one scheme do not pass for another', () => {
    expect(verifyCall('nexus', ['s'], { 'x-hub-signature-256': hex('s') }, BODY, NOW)).toBeNull();
    expect(verifyCall('github', ['s'], { 'x-nexus-signature': hex('s') }, BODY, NOW)).toBeNull();
  });
});
