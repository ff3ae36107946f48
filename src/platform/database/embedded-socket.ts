import { closeSync, openSync, rmSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';

/**
 * A socket in a folder, on which its process listens as long as it lives. The kernel answers for it, so that neither a
 * kill nor a busy process gives a wrong answer, and whoever shares the folder can ask, from other containers too.
 */
export class LockSocket {
  private constructor(
    readonly name: string,
    private readonly server: net.Server,
    private readonly folder: string,
  ) {}

  /** @returns undefined on a file system without sockets */
  static async open(folder: string, name: string): Promise<LockSocket | undefined> {
    const server = net.createServer((connection) => connection.destroy());
    const listening = await withShortPath(
      folder,
      name,
      (file) =>
        new Promise<boolean>((resolve) => {
          server.once('error', () => resolve(false));
          server.listen(file, () => resolve(true));
        }),
    );
    return listening ? new LockSocket(name, server.unref(), folder) : undefined;
  }

  close(): void {
    this.server.close();
    rmSync(path.join(this.folder, this.name), { force: true });
  }
}

/** Whether a process listens on a socket in a folder; undefined when that cannot be told. */
export async function someoneListens(folder: string, name: string): Promise<boolean | undefined> {
  return withShortPath(
    folder,
    name,
    (file) =>
      new Promise<boolean | undefined>((resolve) => {
        const connection = net.connect(file, () => {
          connection.destroy();
          resolve(true);
        });
        connection.once('error', (error: NodeJS.ErrnoException) => {
          resolve(error.code === 'ECONNREFUSED' ? false : undefined);
        });
      }),
  );
}

/** Paths of sockets have some hundred characters at most, paths of folders many more. */
async function withShortPath<T>(
  folder: string,
  name: string,
  work: (file: string) => Promise<T>,
): Promise<T | undefined> {
  if (process.platform !== 'linux') return work(path.join(folder, name));
  let fd: number;
  try {
    fd = openSync(folder, 'r');
  } catch {
    return undefined;
  }
  try {
    return await work(`/proc/self/fd/${fd}/${name}`);
  } finally {
    closeSync(fd);
  }
}
