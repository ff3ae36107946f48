import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import openapiTS, { astToString } from 'openapi-typescript';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DOCUMENT = new URL('../../docs/openapi.json', import.meta.url);
const SCHEMA = `${ROOT}test/architecture/schema.ts`;
const CLIENT = `${ROOT}test/architecture/client.ts`;

/** A program of a caller, compiled and not run. The lines that expect an error show that the types are those of the document and not `any`. */
const PROGRAM = `
import createClient from 'openapi-fetch';
import type { paths } from './schema.js';

const client = createClient<paths>({ baseUrl: 'http://127.0.0.1:8000' });

export async function use(): Promise<[number, string, string | null]> {
  const agents = await client.GET('/api/v1/ai/agents', { params: { query: { status: 'active', limit: 10 } } });
  const sent = await client.POST('/api/v1/commands', {
    params: { header: { 'Idempotency-Key': 'once' } },
    body: { command_type: 'system.info', target: 'local' },
  });
  // What has a default may be left out.
  await client.POST('/api/v1/ai/agents/join-tokens', { body: { labels: { env: 'test' } } });
  if (agents.error || sent.error) throw new Error((agents.error ?? sent.error)?.error.message);
  const command = await client.GET('/api/v1/commands/{id}', { params: { path: { id: sent.data.command_id } } });
  if (!command.data) throw new Error(command.error.error.code);
  return [agents.data.pagination.total, command.data.command_id, command.data.agent_id];
}

export async function misuse(): Promise<void> {
  // @ts-expect-error there is no such path
  await client.GET('/api/v1/nothing');
  // @ts-expect-error the target is missing
  await client.POST('/api/v1/commands', { body: { command_type: 'system.info' } });
  // @ts-expect-error there is no such status
  await client.GET('/api/v1/ai/agents', { params: { query: { status: 'sleeping' } } });
}
`;

describe('tools that read the committed OpenAPI document', () => {
  it('has nothing that the recommended rules of Redocly warn about', async () => {
    const { stdout, stderr } = await run('npm', ['run', '--silent', 'check:openapi', '--', '--format=json']);
    const report = JSON.parse(stdout || JSON.stringify({ stderr })) as {
      totals: object;
      problems: { ruleId: string; message: string }[];
    };
    expect(report.problems.map(({ ruleId, message }) => `${ruleId}: ${message}`)).toEqual([]);
    expect(report.totals).toMatchObject({ errors: 0, warnings: 0 });
  });

  it('gives types that compile in strict mode, and a client that is typed by them', async () => {
    const schema = astToString(await openapiTS(DOCUMENT));
    expect(compile({ [SCHEMA]: schema, [CLIENT]: PROGRAM })).toEqual([]);
  }, 180_000);
});

function run(command: string, args: string[]): Promise<{ stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const options = { cwd: ROOT, maxBuffer: 16 * 1024 * 1024 };
    execFile(command, args, options, (_error, stdout, stderr) => resolve({ stdout, stderr }));
  });
}

/** Errors of files that exist in memory only, so that nothing generated lies beside the sources. */
function compile(files: Record<string, string>): string[] {
  const options: ts.CompilerOptions = {
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: [],
  };
  const disk = ts.createCompilerHost(options);
  const host: ts.CompilerHost = {
    ...disk,
    fileExists: (file) => file in files || disk.fileExists(file),
    readFile: (file) => files[file] ?? disk.readFile(file),
    getSourceFile: (file, target, ...rest) =>
      file in files ? ts.createSourceFile(file, files[file], target) : disk.getSourceFile(file, target, ...rest),
  };
  const program = ts.createProgram(Object.keys(files), options, host);
  return ts.getPreEmitDiagnostics(program).map(({ file, start = 0, messageText }) => {
    const line = file ? file.getLineAndCharacterOfPosition(start).line + 1 : 0;
    return `${file?.fileName ?? ''}:${line} ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
  });
}
