import { createServer, type Server, type Socket } from 'node:net';
import net from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { AppError } from '../errors/index.js';
import { EgressClient, type EgressOptions } from './egress-client.js';

const PUBLIC = '93.184.216.34';

/** A client whose names resolve as told and which cannot connect anywhere: it only notes where it wanted to. */
function caged(
  answers: (host: string) => string[],
  o: Partial<EgressOptions> = {},
): { client: EgressClient; opened: string[]; asked: string[] } {
  const opened: string[] = [];
  const asked: string[] = [];
  const client = new EgressClient({
    allow: [],
    failureLimit: 1000,
    resolver: async (host) => {
      asked.push(host);
      return answers(host).map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    },
    openSocket: (_target, address) => {
      opened.push(address);
      return Promise.reject(Object.assign(new Error('caged'), { code: 'ECONNREFUSED' }));
    },
    ...o,
  });
  return { client, opened, asked };
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'answered',
    (error: Error & { code?: string }) => error.code ?? error.message,
  );

const FORMS = [
  // Literal addresses in every spelling that the URL standard reads
  'https://127.0.0.1/',
  'https://127.0.0.1:443/',
  'https://127.0.0.1:8443/x?y#z',
  'https://127.1/',
  'https://127.0.1/',
  'https://2130706433/',
  'https://0x7f000001/',
  'https://0x7f.0.0.1/',
  'https://0x7f.1/',
  'https://017700000001/',
  'https://0177.0.0.1/',
  'https://0177.0.0x1/',
  'https://127.0.0.1./',
  'https://0/',
  'https://0.0.0.0/',
  'https://00000000/',
  'https://10.0.0.1/',
  'https://172.16.5.4/',
  'https://192.168.0.1/',
  'https://169.254.169.254/latest/meta-data/',
  'https://2852039166/',
  'https://0xa9fea9fe/',
  'https://0251.0376.0251.0376/',
  'https://168.63.129.16/',
  'https://100.100.100.200/',
  'https://192.0.0.192/',
  'https://198.18.0.1/',
  'https://224.0.0.1/',
  'https://255.255.255.255/',
  'https://4294967295/',
  // IPv6, mapped, compatible, translated, tunnelled
  'https://[::]/',
  'https://[::1]/',
  'https://[0:0:0:0:0:0:0:1]/',
  'https://[::1]:8443/',
  'https://[::127.0.0.1]/',
  'https://[::ffff:127.0.0.1]/',
  'https://[::ffff:7f00:1]/',
  'https://[::ffff:a9fe:a9fe]/',
  'https://[::ffff:0:7f00:1]/',
  'https://[64:ff9b::127.0.0.1]/',
  'https://[64:ff9b:1::7f00:1]/',
  'https://[2002:7f00:1::]/',
  'https://[2001:0:7f00:1::]/',
  'https://[fe80::1]/',
  'https://[fe80::1%25eth0]/',
  'https://[fe80::1%eth0]/',
  'https://[fec0::1]/',
  'https://[fc00::1]/',
  'https://[fd00:ec2::254]/',
  'https://[ff02::1]/',
  'https://[100::1]/',
  'https://[2001:db8::1]/',
  // Other digits, dots and letters that normalise to an address or a local name
  'https://１２７.０.０.１/',
  'https://①②⑦.⓪.⓪.①/',
  'https://127。0。0。1/',
  'https://127．0．0．1/',
  'https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/',
  'https://%31%32%37.0.0.1/',
  'https://%6c%6f%63alhost/',
  // Names
  'https://localhost/',
  'https://LOCALHOST/',
  'https://localhost./',
  'https://api.localhost/',
  'https://localhost.localdomain/',
  'https://redis:6379/',
  'https://metadata.google.internal/',
  'https://printer.local/',
  'https://rebound.example.com/',
  'https://rebound.example.com./',
  'https://127.0.0.1.nip.example/',
  'https://a..example.com/',
  'https://.example.com/',
  'https://example.com../',
  // Credentials, odd separators, control characters
  'https://user:pass@example.com/',
  'https://user@example.com/',
  'https://@example.com/',
  'https://example.com@127.0.0.1/',
  'https://127.0.0.1@example.com/',
  'https://example.com%40127.0.0.1/',
  'https://127.0.0.1\\@example.com/',
  'https:\\\\127.0.0.1/',
  'https:127.0.0.1',
  'https:/127.0.0.1',
  'https:///127.0.0.1/',
  'https:////127.0.0.1/',
  '//127.0.0.1/',
  'https://127.0.0.1#@example.com/',
  'https://127.0.0.1?@example.com/',
  ' https://example.com/',
  'https://example.com/ ',
  'https://exam\tple.com/',
  'https://example.com/\r\nX: y',
  'https://exa\u00admple.com/',
  'https://ex\u200bample.com/',
  // Other schemes and plain http
  'http://example.com/',
  'http://8.8.8.8/',
  'http://127.0.0.1/',
  'HTTP://127.0.0.1/',
  'ftp://example.com/',
  'file:///etc/passwd',
  'gopher://127.0.0.1:6379/_x',
  'javascript:alert(1)',
  'data:text/html,x',
  'ws://example.com/',
  'wss://example.com/',
  'blob:https://example.com/x',
  'unix:/var/run/docker.sock',
  'http+unix://%2Fvar%2Frun%2Fdocker.sock/x',
  'dict://127.0.0.1:11211/',
  // Ports and lengths
  'https://example.com:0/',
  'https://example.com:65536/',
  'https://example.com:-1/',
  'https://example.com:80a/',
  'https://',
  'https:',
  '',
  'https://[::1',
  'https://1.2.3.4.5/',
  `https://example.com/${'a'.repeat(2048)}`,
];

describe('URLs that lead inside', () => {
  it(`are ${FORMS.length} forms here`, () => {
    expect(new Set(FORMS).size).toBeGreaterThanOrEqual(40);
  });

  it.each(FORMS)('%j is refused at registration and at use, without a connection', async (url) => {
    const { client, opened } = caged((host) =>
      /^(example\.com|ex.*ample\.com)$/.test(host) ? [PUBLIC] : ['127.0.0.1'],
    );
    const refusal = await client.assertAllowed(url, 'callback_url').catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(AppError);
    expect(refusal).toMatchObject({ status: 400, details: [{ field: 'callback_url' }] });
    expect(await codeOf(client.request({ method: 'POST', url, body: 'x' }))).toBe('BLOCKED');
    expect(opened).toEqual([]);
  });

  it.each([
    'https://example.com/',
    'https://EXAMPLE.com.:8443/a?b',
    'https://bücher.example/',
    `https://${PUBLIC}/`,
    'https://[2606:4700::1111]:443/',
    'https://134744072/',
  ])('%s leads outside and is let through to exactly its address', async (url) => {
    const { client, opened } = caged(() => [PUBLIC]);
    await client.assertAllowed(url, 'url');
    expect(opened).toEqual([]);
    expect(await codeOf(client.request({ method: 'GET', url }))).toBe('CONNECT');
    expect(opened).toEqual([url.includes('[') ? '2606:4700::1111' : url.includes('1347') ? '8.8.8.8' : PUBLIC]);
  });
});

describe('answers of the name service', () => {
  it.each([
    [[PUBLIC, '10.0.0.1']],
    [['10.0.0.1', PUBLIC]],
    [[PUBLIC, '8.8.8.8', '::1']],
    [['2606:4700::1111', '::ffff:169.254.169.254']],
    [[PUBLIC, 'fe80::1%eth0']],
    [[PUBLIC, 'not an address']],
  ])('%j are refused as a whole', async (answers) => {
    const { client, opened } = caged(() => answers);
    await expect(client.assertAllowed('https://mixed.example.com/', 'url')).rejects.toMatchObject({ status: 400 });
    const failure: unknown = await client
      .request({ method: 'GET', url: 'https://mixed.example.com/' })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'BLOCKED' });
    for (const answer of answers) expect((failure as Error).message).not.toContain(answer);
    expect(opened).toEqual([]);
  });

  it('are asked for once per request, so that a second answer cannot replace the checked one', async () => {
    const answers = [[PUBLIC], ['127.0.0.1'], ['10.0.0.1']];
    const { client, opened, asked } = caged(() => answers.shift() ?? ['127.0.0.1']);
    expect(await codeOf(client.request({ method: 'GET', url: 'https://rebinding.example.com/' }))).toBe('CONNECT');
    expect([opened, asked]).toEqual([[PUBLIC], ['rebinding.example.com']]);
    expect(await codeOf(client.request({ method: 'GET', url: 'https://rebinding.example.com/' }))).toBe('BLOCKED');
    expect(opened).toEqual([PUBLIC]);
  });

  it('that changed since registration are checked again', async () => {
    const answers = [[PUBLIC], ['169.254.169.254']];
    const { client, opened } = caged(() => answers.shift() ?? []);
    await client.assertAllowed('https://later.example.com/', 'url');
    expect(await codeOf(client.request({ method: 'GET', url: 'https://later.example.com/' }))).toBe('BLOCKED');
    expect(opened).toEqual([]);
  });

  it('may be missing at registration of a public name, not of a local or plain one', async () => {
    const { client } = caged(() => {
      throw new Error('ENOTFOUND');
    });
    await client.assertAllowed('https://soon.example.com/', 'url');
    await expect(client.assertAllowed('http://soon.example.com/', 'url')).rejects.toMatchObject({ status: 400 });
    await expect(client.assertAllowed('https://postgres/', 'url')).rejects.toMatchObject({ status: 400 });
    expect(await codeOf(client.request({ method: 'GET', url: 'https://soon.example.com/' }))).toBe('DNS');
  });
});

describe('the allow-list', () => {
  it('opens names, ranges and plain http for what it lists and nothing else', async () => {
    const { client, opened } = caged((host) => [host === 'both' ? '127.0.0.1' : '10.0.0.5'], {
      allow: ['127.0.0.0/8', 'queue', 'cache:6380'],
    });
    const codes = async (...urls: string[]): Promise<string[]> =>
      Promise.all(urls.map((url) => codeOf(client.request({ method: 'GET', url }))));
    const open = [
      'http://127.0.0.1:9/',
      'http://both/',
      'http://queue:1234/',
      'https://QUEUE./',
      'http://cache:6380/',
      'http://[::ffff:127.0.0.1]/',
    ];
    const shut = [
      'http://10.0.0.5/',
      'http://other/',
      'http://cache/',
      'https://cache:6381/',
      'http://sub.queue/',
      'http://8.8.8.8/',
      'http://[::1]/',
    ];
    expect(await codes(...open)).toEqual(open.map(() => 'CONNECT'));
    const before = opened.length;
    expect(await codes(...shut)).toEqual(shut.map(() => 'BLOCKED'));
    expect(opened).toHaveLength(before);
    for (const url of open) await client.assertAllowed(url, 'url');
    for (const url of shut) await expect(client.assertAllowed(url, 'url')).rejects.toBeInstanceOf(AppError);
  });

  it('does not open http when that is switched off', async () => {
    const { client, opened } = caged(() => [], { allow: ['127.0.0.0/8'], allowHttp: false });
    expect(await codeOf(client.request({ method: 'GET', url: 'http://127.0.0.1/' }))).toBe('BLOCKED');
    await expect(client.assertAllowed('http://127.0.0.1/', 'url')).rejects.toBeInstanceOf(AppError);
    expect(opened).toEqual([]);
    await client.assertAllowed('https://127.0.0.1/', 'url');
  });
});

describe('the other end of a connection', () => {
  it('must be the address that was checked: otherwise nothing is sent', async () => {
    const received: Buffer[] = [];
    let closed = (): void => undefined;
    const gone = new Promise<void>((resolve) => (closed = resolve));
    const server: Server = createServer((socket: Socket) => {
      socket.on('data', (chunk) => received.push(chunk)).on('close', closed);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { client } = caged(() => [PUBLIC], {
      openSocket: () =>
        new Promise((resolve) => {
          const socket = net.connect(port, '127.0.0.1', () => resolve(socket));
        }),
    });
    expect(await codeOf(client.request({ method: 'POST', url: 'https://hijacked.example.com/', body: 'secret' }))).toBe(
      'BLOCKED',
    );
    await gone;
    expect(received).toEqual([]);
    server.close();
  });
});
