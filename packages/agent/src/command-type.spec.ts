import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readConfig } from './agent-config.js';
import { AgentError } from './agent-error.js';
import { argumentsOf, checkParameters, type CommandType } from './command-type.js';

function typeOf(fields: Record<string, unknown>): CommandType {
  return readConfig({ commands: { 'some.type': { executable: '/bin/echo', ...fields } } }).commands[0];
}

function argvOf(type: CommandType, given: Record<string, unknown>): string[] {
  return argumentsOf(type, checkParameters(type.parameters, given));
}

describe('the argument template', () => {
  const type = typeOf({
    args: ['restart', '--unit={unit}', '{unit}', '{count}', '{{unit}}', '{ unit }', '{{.Names}}'],
    parameters: { unit: { type: 'string', required: true }, count: { type: 'integer', default: 3 } },
  });

  it('gives one argument per element, whatever the value holds', () => {
    const unit = 'a b; rm -rf "$HOME" `x` $(y) {count}';
    expect(argvOf(type, { unit })).toEqual([
      'restart',
      `--unit=${unit}`,
      unit,
      '3',
      '{{unit}}',
      '{ unit }',
      '{{.Names}}',
    ]);
  });

  it('keeps replacement patterns of JavaScript as they are', () => {
    expect(argvOf(type, { unit: "$& $1 $' $$" })[2]).toBe("$& $1 $' $$");
  });
});

describe('parameters', () => {
  const type = typeOf({
    parameters: {
      unit: { type: 'string', required: true, pattern: '[a-z]+(\\.service)?', max_length: 20 },
      mode: { type: 'string', enum: ['soft', 'hard'] },
      count: { type: 'integer', minimum: 1, maximum: 10 },
      ratio: { type: 'number', allow_leading_dash: true },
      force: { type: 'boolean' },
      text: { type: 'string' },
    },
  });

  it.each([
    [{ unit: 'nginx.service', mode: 'soft', count: 10, ratio: -0.5, force: false, text: '' }],
    [{ unit: 'nginx' }],
  ])('takes %j', (given) => {
    expect(Object.fromEntries(checkParameters(type.parameters, given))).toEqual(given);
  });

  it.each([
    [{}, 'unit is required'],
    [{ unit: 'nginx', other: 1 }, '"other" is not a parameter'],
    [{ unit: 'nginx', __proto__x: 1 }, '"__proto__x" is not a parameter'],
    [{ unit: 5 }, 'unit must be a string'],
    [{ unit: 'nginx\n' }, 'unit does not match'],
    [{ unit: 'xnginx!' }, 'unit does not match'],
    [{ unit: 'a'.repeat(21) }, 'unit must not be longer than 20'],
    [{ unit: 'nginx', text: 'a\0b' }, 'text holds characters'],
    [{ unit: 'nginx', text: '\ud800' }, 'text holds characters'],
    [{ unit: 'nginx', text: '-rf' }, 'text must not start with a dash'],
    [{ unit: 'nginx', mode: 'medium' }, 'mode must be one of soft, hard'],
    [{ unit: 'nginx', count: 0 }, 'count must be at least 1'],
    [{ unit: 'nginx', count: 11 }, 'count must be at most 10'],
    [{ unit: 'nginx', count: 1.5 }, 'count must be an integer'],
    [{ unit: 'nginx', count: '5' }, 'count must be an integer'],
    [{ unit: 'nginx', count: -1 }, 'count must not start with a dash'],
    [{ unit: 'nginx', ratio: null }, 'ratio must be a number'],
    [{ unit: 'nginx', force: 'true' }, 'force must be a boolean'],
    [{ unit: ['nginx'] }, 'unit must be a string'],
  ])('refuses %j and names the parameter', (given, problem) => {
    expect(() => checkParameters(type.parameters, given)).toThrow(problem);
  });

  it('never shows a value in its message', () => {
    expect(() => checkParameters(type.parameters, { unit: 'SECRET-value' })).not.toThrow('SECRET');
  });
});

describe('the configuration', () => {
  it('names every wrong key at once', () => {
    const content = {
      comands: {},
      max_concurrent: 0,
      labels: { 'a b': 'x', ok: 5 },
      commands: {
        'system.ping': { executable: '/bin/true' },
        'Bad Type': { executable: 'relative', args: 'x', shell: true },
        'good.type': {
          executable: '/bin/true',
          args: ['{missing}', '{optional}'],
          env: ['A=B'],
          timeout_seconds: 0,
          parameters: {
            optional: { type: 'string' },
            bad: { type: 'text', pattern: '(' },
            range: { type: 'string', minimum: 1 },
            both: { type: 'integer', required: true, default: 1 },
            choice: { type: 'integer', enum: [1, 'two'] },
            start: { type: 'integer', default: 'one' },
          },
        },
      },
    };
    let message = '';
    try {
      readConfig(content, 'agent.json');
    } catch (error) {
      expect(error).toBeInstanceOf(AgentError);
      message = (error as Error).message;
    }
    for (const key of [
      'agent.json',
      'comands',
      'max_concurrent',
      'labels.a b',
      'labels.ok',
      'commands.system.ping',
      'commands.Bad Type is not a type name',
      'commands.Bad Type.executable',
      'commands.Bad Type.args',
      'commands.Bad Type.shell',
      'commands.good.type.args[0] uses {missing}',
      'commands.good.type.args[1] uses {optional}',
      'commands.good.type.env[0]',
      'commands.good.type.timeout_seconds',
      'commands.good.type.parameters.bad.type',
      'commands.good.type.parameters.range.minimum',
      'commands.good.type.parameters.both',
      'commands.good.type.parameters.choice.enum',
      'commands.good.type.parameters.start.default',
    ]) {
      expect(message).toContain(key);
    }
  });

  it('is as the README shows it', () => {
    const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
    const { commands } = readConfig(JSON.parse(/```json\n([^]+?)```/.exec(readme)![1]));
    expect(argvOf(commands[0], { unit: 'app.service' })).toEqual(['restart', '--', 'app.service']);
    expect(argvOf(commands[1], { unit: 'app.service' })[2]).toBe('--lines=100');
  });

  it('is complete without a file', () => {
    expect(readConfig({})).toEqual({ labels: {}, commands: [], maxConcurrent: 4, spoolLimitBytes: 64 * 1024 * 1024 });
  });
});
