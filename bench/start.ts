import { readFileSync } from 'node:fs';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { median, printTable } from './report.js';

const WARM_STARTS = 5;
const IDLE_SECONDS = 20;

/** Time from the process's start to ready, cold (new data folder) and warm, and the resident memory when idle. */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const port = await freePort();
  const timed = async (): Promise<{ ms: number; nexus: NexusProcess }> => {
    const start = performance.now();
    const nexus = await NexusProcess.start({ home: home.path, port });
    return { ms: performance.now() - start, nexus };
  };
  try {
    const cold = await timed();
    await cold.nexus.stop();
    const warm: number[] = [];
    for (let i = 0; i < WARM_STARTS; i++) {
      const { ms, nexus } = await timed();
      warm.push(ms);
      await nexus.stop();
    }
    const { nexus } = await timed();
    await new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000));
    const rss = residentMegabytes(nexus.child.pid as number);
    await nexus.stop();
    printTable(
      ['figure', 'measured', 'wanted'],
      [
        ['cold start to ready, s', cold.ms / 1000, '-'],
        [`warm start to ready, s (median of ${WARM_STARTS})`, median(warm) / 1000, '<= 4'],
        [`idle resident memory after ${IDLE_SECONDS} s, MB`, rss, '<= 250'],
      ],
    );
  } finally {
    home.remove();
  }
}

function residentMegabytes(pid: number): number {
  const kilobytes = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) / 1024;
}
