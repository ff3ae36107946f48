import { afterEach, expect, it } from 'vitest';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';
import { LinkClient } from './link-client.js';

const home = temporaryHome();
let nexus: NexusProcess | undefined;

afterEach(async () => {
  await nexus?.stop();
  home.remove();
});

it('shows agents offline right after a server that was killed is back, until they are', async () => {
  const port = await freePort();
  const options = { home: home.path, port, env: { NEXUS_LOCAL_AGENT: 'false' } };
  nexus = await NexusProcess.start(options);
  const headers = { authorization: `Bearer ${nexus.apiKey}`, 'content-type': 'application/json' };
  const registered = await fetch(`${nexus.url}/api/v1/ai/agents`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ agent_name: 'web-1', agent_type: 'host', version: '1.0.0' }),
  });
  const { agent_id: id, api_key: key } = (await registered.json()) as { agent_id: string; api_key: string };
  const shown = async (): Promise<unknown> => (await fetch(`${nexus?.url}/api/v1/ai/agents/${id}`, { headers })).json();

  await LinkClient.welcomed(nexus.url, key);
  expect(await shown()).toMatchObject({ status: 'active', connected: true });
  await nexus.kill();
  nexus = await NexusProcess.start(options);
  expect(await shown()).toMatchObject({ status: 'offline', connected: false });
  const back = await LinkClient.welcomed(nexus.url, key);
  expect(await shown()).toMatchObject({ status: 'active', connected: true });
  back.close();
});
