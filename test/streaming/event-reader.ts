import http from 'node:http';
import { eventually } from '../support/eventually.js';

export const PATH = '/api/v1/events/stream';

interface Sent {
  id?: string;
  event?: string;
  retry?: string;
  data: Record<string, unknown>;
}

/** Reads a stream as a browser's EventSource would. */
export class EventReader {
  readonly sent: Sent[] = [];
  ended = false;
  status = 0;
  type = '';

  private constructor(private readonly request: http.ClientRequest) {}

  static open(url: string, key: string | null, query = '', headers: Record<string, string> = {}): EventReader {
    const credential: Record<string, string> = key === null ? {} : { authorization: `Bearer ${key}` };
    const request = http.get(`${url}${PATH}${query}`, { headers: { ...credential, ...headers } });
    const reader = new EventReader(request);
    request.on('error', () => (reader.ended = true));
    request.on('response', (response) => {
      reader.status = response.statusCode ?? 0;
      reader.type = String(response.headers['content-type']);
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        const blocks = (text + chunk).split('\n\n');
        text = blocks.pop() ?? '';
        reader.sent.push(...blocks.map(parse));
      });
      response.on('close', () => (reader.ended = true)).on('error', () => undefined);
    });
    return reader;
  }

  next(event: string | undefined): Promise<Sent> {
    return eventually(() => this.sent.find((one) => one.event === event));
  }

  get events(): Sent[] {
    return this.sent.filter(({ event }) => event === undefined);
  }

  close(): void {
    this.request.destroy();
  }
}

function parse(block: string): Sent {
  const fields = Object.fromEntries(
    block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
  );
  return { ...fields, data: JSON.parse(fields.data) as Record<string, unknown> };
}
