import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { systemActor } from '../platform/context/index.js';
import type { StoredEvent } from '../platform/events/index.js';
import { eventually } from '../../test/support/eventually.js';
import { StreamClient } from './stream-client.js';
import { CatalogueEvent } from './stream-event.js';
import { WritePulse } from './write-pulse.js';

class Reader extends StreamClient {
  readonly open = true;
  readonly log: string[] = [];
  flushed = (): Promise<void> => Promise.resolve();
  close(): void {}
  cork(): void {
    this.log.push('cork');
  }
  uncork(): void {
    this.log.push('uncork');
  }
  protected writeMessage(): void {}
  protected write(): void {
    this.log.push('event');
  }
}

const event = new CatalogueEvent(
  {
    id: '550e8400-e29b-41d4-a716-446655440000',
    seq: '1',
    type: 'thing.made',
    subject: 'thing_1',
    data: {},
  } as unknown as StoredEvent,
  { channel: 'custom.events', scope: 'event:read' },
);

it('writes what follows at once together, the first after a pause without delay', async () => {
  const pulse = new WritePulse();
  const reader = new Reader(systemActor, 'websocket');
  pulse.send(reader, event, 'all');
  pulse.send(reader, event, 'all');
  expect(reader.log).toEqual(['cork', 'event', 'event']);
  await turn();
  expect(reader.log.splice(0)).toEqual(['cork', 'event', 'event', 'uncork']);
  pulse.send(reader, event, 'all');
  await eventually(() => reader.log.at(-1) === 'uncork');
  expect(reader.log).toEqual(['cork', 'event', 'uncork']);
});
