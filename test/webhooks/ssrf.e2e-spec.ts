import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EgressClient } from '../../src/platform/egress/index.js';
import type { OpenSocket, ResolveHost } from '../../src/platform/egress/pinned-connection.js';
import { eventually } from '../support/eventually.js';
import type { Answer } from '../support/app.js';
import { type Delivery, WebhookBench } from './harness.js';
import { Receiver, status } from './receiver.js';

const PUBLIC = '93.184.216.34';
const ONCE = { retry_config: { max_retries: 0 } };

/** Answers of the name service, by host, one after the other; the last one stays. Loopback for every name not listed. */
const names = new Map<string, string[]>();
/** Addresses that the server wanted to connect to. Only loopback is really reached, where the canary sits. */
const opened: string[] = [];
let hits = 0;
let canary: net.Server;
let port: number;
let bench: WebhookBench;
let allowed: Receiver;
let forms: string[];

beforeAll(async () => {
  canary = net.createServer((socket) => {
    hits++;
    socket.destroy();
  });
  canary.listen(0, '127.0.0.1');
  await once(canary, 'listening');
  ({ port } = canary.address() as AddressInfo);
  // One address with its port is allowed: nothing else on the same address is.
  allowed = await Receiver.start();
  bench = await WebhookBench.start({ NEXUS_EGRESS_ALLOW: new URL(allowed.url()).host });
  const egress = bench.app.get(EgressClient) as unknown as { resolve: ResolveHost; open: OpenSocket };
  const connect = egress.open;
  egress.resolve = (host) => {
    const answers = names.get(host) ?? ['127.0.0.1'];
    const address = answers.length > 1 ? (answers.shift() as string) : answers[0];
    return Promise.resolve([{ address, family: address.includes(':') ? 6 : 4 }]);
  };
  egress.open = (target, address) => {
    opened.push(address);
    if (address.startsWith('127.')) return connect(target, address);
    return Promise.reject(Object.assign(new Error('outside'), { code: 'ECONNREFUSED' }));
  };
  forms = formsOf(port);
}, 120_000);

afterAll(async () => {
  await allowed?.stop();
  await bench?.stop();
  canary?.close();
});

beforeEach(() => {
  hits = 0;
  opened.length = 0;
});

/** Ways to write "this machine", "the network next door" and "the metadata service". */
function formsOf(p: number): string[] {
  const hosts = [
    ...['127.0.0.1', '127.1', '127.0.1', '127.255.255.254', '2130706433', '0x7f000001', '0x7f.0.0.1', '0x7f.1'],
    ...['017700000001', '0177.0.0.1', '0177.0.0x1', '127.0.0.1.', '0', '0.0.0.0', '00000000', '10.0.0.1', '172.16.5.4'],
    ...['192.168.0.1', '169.254.169.254', '2852039166', '0xa9fea9fe', '0251.0376.0251.0376', '100.100.100.200'],
    ...[
      '[::]',
      '[::1]',
      '[0:0:0:0:0:0:0:1]',
      '[::127.0.0.1]',
      '[::ffff:127.0.0.1]',
      '[::ffff:7f00:1]',
      '[::ffff:a9fe:a9fe]',
    ],
    ...['[64:ff9b::127.0.0.1]', '[2002:7f00:1::]', '[fe80::1]', '[fc00::1]', '[fd00:ec2::254]'],
    ...[
      '１２７.０.０.１',
      '127。0。0。1',
      'ⓛⓞⓒⓐⓛⓗⓞⓢⓣ',
      '%31%32%37.0.0.1',
      'localhost',
      'LOCALHOST',
      'localhost.',
      'api.localhost',
    ],
    ...['redis', 'metadata.google.internal', 'leads-inside.example.com', '127.0.0.1.nip.example'],
    ...['user:pass@example.com', 'example.com@127.0.0.1', '127.0.0.1\\@example.com'],
  ];
  return hosts.flatMap((host) => [`https://${host}:${p}/x`, `http://${host}:${p}/x`]);
}

function call(
  method: string,
  path: string,
  body: object,
): Promise<Answer<{ error: { details: { field: string }[] } }>> {
  return bench.app.call(method, `/api/v1${path}`, { key: bench.key, body });
}

async function webhookWithUrl(url: string): Promise<string> {
  const { id } = await bench.register({ url: 'https://seems-fine.example.com/', ...ONCE });
  await bench.app.db.query('UPDATE webhooks SET url = $2 WHERE id = $1', [id.slice('webhook_'.length), url]);
  return id;
}

describe('URLs that lead inside', () => {
  it('are more than forty forms', () => {
    expect(new Set(forms).size).toBeGreaterThanOrEqual(80);
  });

  it.each([
    'url of a webhook',
    'changed url of a webhook',
    'webhook_config.url of a subscription',
    'callback_url of a command',
    'endpoint of an agent',
  ] as const)(
    'are refused as %s, by the name of the field and without a connection',
    async (where) => {
      names.set('seems-fine.example.com', [PUBLIC]);
      const { id } = await bench.register({ url: 'https://seems-fine.example.com/' });
      for (const url of forms) {
        const sent = {
          'url of a webhook': () => call('POST', '/webhooks', { url, events: ['command.failed'] }),
          'changed url of a webhook': () => call('PATCH', `/webhooks/${id}`, { url }),
          'webhook_config.url of a subscription': () =>
            call('POST', '/events/subscriptions', {
              ...{ name: 'inside', event_patterns: ['shop.*'], delivery_method: 'webhook' },
              webhook_config: { url },
            }),
          'callback_url of a command': () =>
            call('POST', '/commands', { command_type: 'system.ping', target: 'nexus', callback_url: url }),
          'endpoint of an agent': () =>
            call('POST', '/ai/agents', {
              ...{ agent_name: `a-${randomUUID()}`, agent_type: 'ai', version: '1.0.0', capabilities: [] },
              endpoint: url,
            }),
        }[where];
        const answer = await sent();
        const field = where.split(' ').find((word) => /url|endpoint/.test(word));
        expect([url, answer.status, answer.body.error.details[0].field]).toEqual([url, 400, field]);
      }
      expect([hits, opened]).toEqual([0, []]);
      await bench.remove(id);
    },
    120_000,
  );

  it('are not connected to at delivery, however they came into the row', async () => {
    names.set('seems-fine.example.com', [PUBLIC]);
    const ids: string[] = [];
    for (const url of forms) ids.push(await webhookWithUrl(url));
    await bench.publish();
    for (const id of ids) {
      const { attempts } = await bench.finished(id, 60_000);
      expect(attempts.map(({ status_code, error_code }) => [status_code, error_code])).toEqual([[null, 'BLOCKED']]);
    }
    expect([hits, opened]).toEqual([0, []]);
    await bench.remove(...ids);
  }, 240_000);
});

describe('a name that led outside when it was registered', () => {
  it('and now leads inside gets no delivery and no callback', async () => {
    names.set('later.example.com', [PUBLIC]);
    const { id } = await bench.register({ url: `https://later.example.com:${port}/`, ...ONCE });
    // Public while the command is taken, inside when its result is told.
    names.set('later.example.com', [PUBLIC, '127.0.0.1']);
    const told = await bench.app.call<{ command_id: string }>('POST', '/api/v1/commands', {
      key: bench.key,
      body: { command_type: 'system.ping', target: 'nexus', callback_url: `https://later.example.com:${port}/` },
    });
    expect(told.status).toBe(201);
    await bench.publish();
    const { attempts } = await bench.finished(id);
    expect(attempts.map(({ error_code }: Delivery['attempts'][number]) => error_code)).toEqual(['BLOCKED']);
    await eventually(async () => {
      const { text } = await bench.app.call('GET', `/api/v1/commands/${told.body.command_id}`, { key: bench.key });
      return text.includes('callback_failed');
    });
    expect([hits, opened]).toEqual([0, []]);
    await bench.remove(id);
  });

  it('and answers differently each time it is asked is connected to where the checked answer said', async () => {
    names.set('rebinding.example.com', [PUBLIC, PUBLIC, '127.0.0.1']);
    const { id } = await bench.register({ url: `https://rebinding.example.com:${port}/`, ...ONCE });
    await bench.publish();
    const { attempts } = await bench.finished(id);
    expect(attempts.map(({ error_code }) => error_code)).toEqual(['CONNECT']);
    expect([hits, opened]).toEqual([0, [PUBLIC]]);
    await bench.remove(id);
  });
});

describe('a redirect', () => {
  it('of an allowed receiver to this machine is not followed', async () => {
    for (const code of [301, 302, 303, 307, 308]) {
      allowed.answer = status(code, { location: `http://127.0.0.1:${port}/` });
      const { id } = await bench.register({ url: allowed.url(), ...ONCE });
      await bench.publish();
      expect((await bench.finished(id)).attempts).toMatchObject([{ status_code: code, error_code: 'REDIRECT' }]);
      await bench.remove(id);
    }
    expect(hits).toBe(0);
  });
});
