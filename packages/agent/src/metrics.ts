import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import os from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { fsSize, mem, networkStats } from 'systeminformation';
import type { TelemetryEventFrame } from './protocol.js';

/** Where data lies on local disks. Network file systems are left out: one whose server is away would hold up every sample. */
const LOCAL_FILE_SYSTEMS = new Set(
  'ext2 ext3 ext4 xfs btrfs zfs f2fs jfs reiserfs bcachefs ntfs ntfs3 fuseblk vfat exfat apfs hfs ufs'.split(' '),
);
const LOOK_FOR_MOUNTS_MS = 60_000;
const FIRST_LOAD_MS = 500;

interface CpuTimes {
  idle: number;
  total: number;
}

interface Traffic {
  rx: number;
  tx: number;
}

/** Reads this host's own figures as `system.metric` events. On Linux a sample starts no process. */
export class SystemMetrics {
  /** CPU use in percent at the last sample. */
  loadPercent = 0;
  private cpu: CpuTimes | undefined;
  private traffic: { at: number; byInterface: Map<string, Traffic> } | undefined;
  private mounts: { at: number; paths: string[] } | undefined;

  constructor(private readonly host: string) {}

  /**
   * @param source name of the agent, asked for when the figures are there: at the start it may not be known before
   * @param dropped batches of telemetry that the agent lost since its start
   */
  async sample(source: () => string, dropped: number): Promise<TelemetryEventFrame[]> {
    if (!this.cpu) {
      // Rates need two readings: people want to see the first figures within a second.
      this.cpu = readCpu();
      this.traffic = { at: performance.now(), byInterface: await readTraffic() };
      await delay(FIRST_LOAD_MS);
    }
    const timestamp = new Date().toISOString();
    const events: TelemetryEventFrame[] = [];
    const add = (metric_name: string, value: number, unit: string, tags: Record<string, string> = {}): void => {
      if (!Number.isFinite(value)) return;
      events.push({
        event_id: randomUUID(),
        event_type: 'system.metric',
        source: source(),
        timestamp,
        data: { metric_name, value: Math.round(value * 100) / 100, unit, tags: { host: this.host, ...tags } },
      });
    };
    this.loadPercent = this.cpuUsage();
    add('cpu_usage', this.loadPercent, 'percent');
    const memory = await mem();
    add('memory_usage', (100 * memory.active) / memory.total, 'percent');
    add('memory_used_bytes', memory.active, 'bytes');
    add('load_average_1m', os.loadavg()[0], 'processes');
    add('uptime_seconds', Math.floor(os.uptime()), 'seconds');
    for (const { mount, percent } of await this.diskUsage()) add('disk_usage', percent, 'percent', { mount });
    for (const [name, { rx, tx }] of await this.trafficRates()) {
      add('network_rx_bytes_per_second', rx, 'bytes_per_second', { interface: name });
      add('network_tx_bytes_per_second', tx, 'bytes_per_second', { interface: name });
    }
    add('agent_spool_dropped_batches', dropped, 'batches');
    return events;
  }

  private cpuUsage(): number {
    const now = readCpu();
    const before = this.cpu ?? now;
    this.cpu = now;
    const total = now.total - before.total;
    if (total <= 0) return this.loadPercent;
    return Math.min(100, Math.max(0, 100 * (1 - (now.idle - before.idle) / total)));
  }

  private async diskUsage(): Promise<{ mount: string; percent: number }[]> {
    const now = performance.now();
    if (!this.mounts || now - this.mounts.at > LOOK_FOR_MOUNTS_MS) this.mounts = { at: now, paths: await findMounts() };
    const used = await Promise.all(
      this.mounts.paths.map(async (mount) => {
        try {
          const { blocks, bfree, bavail } = await statfs(mount);
          // As df does: what root alone may use counts as used neither way.
          return { mount, percent: (100 * (blocks - bfree)) / (blocks - bfree + bavail) };
        } catch {
          return { mount, percent: NaN };
        }
      }),
    );
    return used;
  }

  private async trafficRates(): Promise<Map<string, Traffic>> {
    const now = { at: performance.now(), byInterface: await readTraffic() };
    const before = this.traffic;
    this.traffic = now;
    const rates = new Map<string, Traffic>();
    const seconds = (now.at - (before?.at ?? now.at)) / 1000;
    if (seconds <= 0) return rates;
    for (const [name, { rx, tx }] of now.byInterface) {
      const last = before?.byInterface.get(name);
      // An interface that was made anew counts from zero again.
      if (!last || rx < last.rx || tx < last.tx) continue;
      rates.set(name, { rx: (rx - last.rx) / seconds, tx: (tx - last.tx) / seconds });
    }
    return rates;
  }
}

function readCpu(): CpuTimes {
  let idle = 0;
  let total = 0;
  for (const { times } of os.cpus()) {
    idle += times.idle;
    total += times.user + times.nice + times.sys + times.idle + times.irq;
  }
  return { idle, total };
}

/** Bytes received and sent by each interface to the outside. */
async function readTraffic(): Promise<Map<string, Traffic>> {
  if (process.platform !== 'linux') {
    const stats = await networkStats();
    return new Map(stats.map(({ iface, rx_bytes, tx_bytes }) => [iface, { rx: rx_bytes, tx: tx_bytes }]));
  }
  const traffic = new Map<string, Traffic>();
  for (const line of readFileSync('/proc/net/dev', 'utf8').split('\n').slice(2)) {
    const [name, ...numbers] = line.trim().split(/:\s*|\s+/);
    const [rx, tx] = [Number(numbers[0]), Number(numbers[8])];
    // Virtual ends of containers come and go; an interface that never carried anything says nothing.
    if (name === 'lo' || /^(veth|ifb|dummy)/.test(name) || !(rx + tx > 0)) continue;
    traffic.set(name, { rx, tx });
  }
  return traffic;
}

/** One mount point of every local file system; the root always. */
async function findMounts(): Promise<string[]> {
  if (process.platform !== 'linux') {
    const systems = await fsSize();
    return systems.filter(({ type }) => LOCAL_FILE_SYSTEMS.has(type.toLowerCase())).map(({ mount }) => mount);
  }
  const byDevice = new Map<string, string>();
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
    const [device, escaped, type] = line.split(' ');
    if (!escaped || (escaped !== '/' && !LOCAL_FILE_SYSTEMS.has(type))) continue;
    const mount = escaped.replace(/\\([0-7]{3})/g, (_match, octal: string) => String.fromCharCode(parseInt(octal, 8)));
    const known = byDevice.get(device);
    // A file system that is mounted in several places is told of once, under its shortest name.
    if (known === undefined || mount.length < known.length) byDevice.set(device, mount);
  }
  return [...byDevice.values()];
}
