import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { eventually } from '../support/eventually.js';
import { freePort, ROOT } from '../support/nexus-process.js';
import type { Received } from './receiver.js';

/** The first block of code of this language in docs/webhooks.md. */
function printed(language: string): string {
  const [, code] = readFileSync(path.join(ROOT, 'docs/webhooks.md'), 'utf8').split(`\n\`\`\`${language}\n`);
  return code.split('\n```')[0];
}

/** What the receiver in Node that the documentation shows answers to a delivery, when it has this secret. */
export async function askNodeReceiver(secret: string, { headers, body }: Received): Promise<number> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'nexus-receiver-'));
  const port = await freePort();
  const file = path.join(folder, 'receiver.mjs');
  writeFileSync(file, printed('js').replace('.listen(9000)', `.listen(${port}, '127.0.0.1')`));
  const child: ChildProcess = spawn(process.execPath, [file], {
    env: { WEBHOOK_SECRET: secret },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    const names = Object.keys(headers).filter((name) => /^(x-nexus|webhook)-/.test(name));
    const signed = Object.fromEntries(names.map((name) => [name, String(headers[name])]));
    return await eventually(async () => {
      const answer = await fetch(`http://127.0.0.1:${port}`, {
        method: 'POST',
        headers: signed,
        body: new Uint8Array(body),
      })
        // It may not listen yet.
        .catch(() => undefined);
      return answer?.status;
    });
  } finally {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true });
  }
}

/** What the two Python functions that the documentation shows say of a delivery, when they get this secret. */
export function askPythonChecks(secret: string, { headers, body }: Received): string {
  const script = `${printed('python')}
import json, sys
payload = sys.stdin.buffer.read()
headers = json.loads(sys.argv[1])
print(verify(payload, headers, sys.argv[2]), verify_standard(payload, headers, sys.argv[2]))`;
  return execFileSync('python3', ['-c', script, JSON.stringify(headers), secret], { input: body })
    .toString()
    .trim();
}
