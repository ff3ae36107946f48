import { afterEach, describe, expect, it, vi } from 'vitest';
import { runInContext } from '../context/index.js';
import { Logger } from './logger.js';

function logged(level: string, work: (logger: Logger) => void): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [];
  work(new Logger(level, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }));
  return lines;
}

describe('The log', () => {
  afterEach(() => vi.useRealTimers());

  it('masks secrets at any depth, in arrays and in any spelling', () => {
    const [line] = logged('info', (logger) =>
      logger.info(
        {
          password: 'p1',
          headers: { Authorization: 'p2', 'Set-Cookie': ['p3'], 'x-api-key': 'p4', accept: 'seen' },
          list: [{ refreshToken: 'p5' }, { clientSecret: 'p6', deep: { newPassword: 'p7' } }],
          key: 'p8',
          jwt: 'p9',
          masterKeys: ['pa'],
          credentials: { user: 'pb' },
        },
        'Hello',
      ),
    );
    const text = JSON.stringify(line);
    expect(text).not.toMatch(/"p[0-9a-b]"/);
    expect(text.match(/\*\*\*masked\*\*\*/g)).toHaveLength(11);
    expect(line).toMatchObject({ msg: 'Hello', level: 'info', service: 'nexus', headers: { accept: 'seen' } });
  });

  it('shows what only sounds secret', () => {
    const fields = {
      key_id: 'key_1',
      token_type: 'Bearer',
      credential_id: 'key_2',
      password: null,
      has_password: true,
      keys: 3,
      max_tokens: 4,
      code: 'ECONNREFUSED',
      status_code: 200,
    };
    const [line] = logged('info', (logger) => logger.info(fields, 'Hello'));
    expect(line).toMatchObject(fields);
  });

  it('masks credentials inside text, in messages and errors too', () => {
    const key = `nexus_api_abcdefgh_${'x'.repeat(43)}_123456`;
    const lines = logged('info', (logger) => {
      logger.warn({ err: 'connect to postgres://nexus:hunter2@db:5432/nexus failed' }, `Key ${key} refused`);
      logger.error(`Authorization: Bearer eyJhbGciOi.abc.def`);
      logger.error({ err: new Error('redis://:hunter2@cache') }, 'Failed');
    });
    const text = JSON.stringify(lines);
    expect(text).not.toMatch(/hunter2|xxxx|eyJ/);
    expect(text).toContain('postgres://nexus:***masked***@db:5432/nexus');
  });

  it('bounds text, lists and depth, and does not fall over anything', () => {
    const circle: Record<string, unknown> = { name: 'circle' };
    circle['self'] = circle;
    const [line] = logged('info', (logger) =>
      logger.info(
        {
          long: 'x'.repeat(5000),
          list: Array.from({ length: 500 }, (_v, i) => i),
          circle,
          big: 10n,
          bytes: Buffer.alloc(9),
        },
        'y'.repeat(5000),
      ),
    );
    expect((line['long'] as string).length).toBe(1001);
    expect((line['msg'] as string).length).toBe(1001);
    expect(line['list']).toHaveLength(50);
    expect(line).toMatchObject({ big: '10', bytes: '9 bytes' });
  });

  it('carries the request id of the work in hand, and none outside', () => {
    const lines = logged('info', (logger) => {
      runInContext({ requestId: 'req_1', startedAt: 0 }, () => logger.info('inside'));
      logger.info('outside');
    });
    expect(lines[0]).toMatchObject({ request_id: 'req_1', msg: 'inside' });
    expect(lines[1]).not.toHaveProperty('request_id');
  });

  it('has the framework speak at debug, its errors at error', () => {
    const work = (logger: Logger): void => {
      logger.log('Mapped {/api/v1/things, GET} route', 'RouterExplorer');
      logger.error('Boom', 'Error: Boom at x', 'ExceptionHandler');
    };
    expect(logged('info', work).map((line) => [line['level'], line['msg']])).toEqual([['error', 'Boom']]);
    expect(logged('debug', work).map((line) => [line['level'], line['context']])).toEqual([
      ['debug', 'RouterExplorer'],
      ['error', 'Error: Boom at x'],
    ]);
  });

  it('stays quick over long hostile text', () => {
    const begin = performance.now();
    logged('info', (logger) => {
      for (let i = 0; i < 200; i++) logger.info({ err: `//${'a'.repeat(100_000)}` }, 'Bearer '.repeat(20_000));
    });
    expect(performance.now() - begin).toBeLessThan(2000);
  });

  it('has one line a minute for what fails repeatedly, and counts the rest', () => {
    vi.useFakeTimers();
    const lines = logged('info', (logger) => {
      for (let second = 0; second < 121; second++) {
        logger.warnRepeated('redis', { second }, 'Away');
        vi.advanceTimersByTime(1000);
      }
      logger.warnRepeated('other', {}, 'Too');
    });
    expect(lines).toMatchObject([
      { second: 0, msg: 'Away' },
      { second: 60, left_out_before: 59 },
      { second: 120, left_out_before: 59 },
      { msg: 'Too' },
    ]);
    expect(lines).toHaveLength(4);
  });
});
