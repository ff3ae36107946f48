import { randomBytes } from 'node:crypto';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { WebhookBench } from './harness.js';

/** The API in this process, and beside it a worker of its own process that can be killed. */
export class KillableWorker {
  private readonly home = temporaryHome();
  private worker: NexusProcess | undefined;

  private constructor(
    private readonly database: TestDatabase,
    private readonly env: Record<string, string>,
    readonly bench: WebhookBench,
  ) {}

  static async start(): Promise<KillableWorker> {
    const database = await createTestDatabase();
    const keys = `test:${randomBytes(32).toString('base64')}`;
    const env = { DATABASE_URL: database.url, NEXUS_MASTER_KEYS: keys, NEXUS_EGRESS_ALLOW: '127.0.0.1' };
    const both = new KillableWorker(database, env, await WebhookBench.start({ ...env, NEXUS_ROLE: 'api' }));
    await both.startWorker();
    return both;
  }

  async startWorker(): Promise<void> {
    const env = { ...this.env, NEXUS_ROLE: 'worker' };
    this.worker = await NexusProcess.start({ home: this.home.path, port: await freePort(), env });
  }

  /** kill -9 */
  async killWorker(): Promise<void> {
    await this.worker?.kill();
  }

  async stop(): Promise<void> {
    await this.worker?.stop();
    await this.bench.stop();
    await this.database.drop();
    this.home.remove();
  }
}
