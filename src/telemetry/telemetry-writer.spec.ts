import { afterEach, describe, expect, it, vi } from 'vitest';
import { HealthRegistry, Logger, Metrics } from '../platform/observability/index.js';
import type { Partitions } from './partitions.js';
import type { TelemetryStore } from './telemetry-store.js';
import { TelemetryWriter } from './telemetry-writer.js';

const failed = (code: string): Error => Object.assign(new Error('failed'), { code });

function writerOver(store: () => Promise<void>): TelemetryWriter {
  return new TelemetryWriter(
    { store } as unknown as TelemetryStore,
    { ensureFor: () => Promise.resolve() } as unknown as Partitions,
    new Logger('silent'),
    new Metrics(),
    new HealthRegistry(),
  );
}

describe('a flush that the database cannot take', () => {
  afterEach(() => vi.restoreAllMocks());

  it.each(['25006', '58030', '53100', '57P01', 'ECONNRESET'])('for now (%s) is tried again', async (code) => {
    const store = vi.fn(() => Promise.resolve()).mockRejectedValueOnce(failed(code));
    await writerOver(store).write({ rows: [], batch: null });
    expect(store).toHaveBeenCalledTimes(2);
  });

  it.each(['25006', '58030', '53100'])('for long (%s) fails with the answer of that error', async (code) => {
    vi.spyOn(performance, 'now').mockReturnValueOnce(0).mockReturnValue(60_000);
    const error = failed(code);
    await expect(writerOver(() => Promise.reject(error)).write({ rows: [], batch: null })).rejects.toBe(error);
  });

  it('while it is away fails as unavailable', async () => {
    vi.spyOn(performance, 'now').mockReturnValueOnce(0).mockReturnValue(60_000);
    const writing = writerOver(() => Promise.reject(failed('57P01'))).write({ rows: [], batch: null });
    await expect(writing).rejects.toMatchObject({ kind: 'unavailable', retryAfter: 1 });
  });
});
