import { describe, expect, it, vi } from 'vitest';
import { systemActor } from '../platform/context/index.js';
import type { Logger } from '../platform/observability/index.js';
import type { Socket } from '../platform/realtime/index.js';
import { StreamGateway } from './stream.gateway.js';
import type { StreamHub } from './stream-hub.js';
import type { StreamSubscriptions } from './stream-subscriptions.js';

describe('a client whose messages wait for their turn', () => {
  it('is not read on once 256 KiB wait, until half of them are done', async () => {
    let say: (message: Buffer) => void = () => undefined;
    const socket = {
      actor: systemActor,
      open: true,
      send: () => true,
      onClose: () => undefined,
      onMessage: (listener: typeof say) => (say = listener),
      pause: vi.fn(),
      resume: vi.fn(),
    };
    let done: () => void = () => undefined;
    const subscribe = vi.fn(() => new Promise<void>((resolve) => (done = resolve)));
    const gateway = new StreamGateway(
      { enter: () => undefined } as unknown as StreamHub,
      { subscribe } as unknown as StreamSubscriptions,
      { error: () => undefined } as unknown as Logger,
    );
    gateway.handleConnection(socket as unknown as Socket);
    const wish = { channels: ['commands.status'], filters: { target: 'x'.repeat(100_000) } };
    const message = Buffer.from(JSON.stringify({ action: 'subscribe', ...wish }));
    say(message);
    say(message);
    await vi.waitFor(() => expect(subscribe).toHaveBeenCalledTimes(1));
    expect(socket.pause).not.toHaveBeenCalled();
    say(message);
    expect(socket.pause).toHaveBeenCalled();
    done();
    await vi.waitFor(() => expect(subscribe).toHaveBeenCalledTimes(2));
    expect(socket.resume).not.toHaveBeenCalled();
    done();
    await vi.waitFor(() => expect(socket.resume).toHaveBeenCalled());
    expect(subscribe).toHaveBeenLastCalledWith(expect.anything(), wish);
  });
});
