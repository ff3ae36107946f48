import { once } from 'node:events';
import { Controller, Get, Headers, Ip, Query, Res } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, ApiOperation, ApiTags, getSchemaPath } from '@nestjs/swagger';
import type { Response } from 'express';
import { type Actor, currentContext } from '../platform/context/index.js';
import { AppError } from '../platform/errors/index.js';
import { Allow, CurrentActor, RateLimit, Streaming, TakesTicket, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import type { CredentialHolder } from '../platform/realtime/index.js';
import { CommandLogQueryDto, CommandLogDto, OutputChunkDto } from './command-logs.dto.js';
import { CommandLogs, endOf, type OutputChunk } from './command-logs.service.js';

const KEEPALIVE_MS = 15_000;
/** A reader that has taken nothing for this long is disconnected. */
const STALL_MS = 25_000;

@ApiTags('commands')
@ApiExtraModels(CommandLogDto)
@Wire('raw')
@Controller('commands')
export class CommandLogsController {
  constructor(private readonly logs: CommandLogs) {}

  @Get(':id/logs')
  @Streaming()
  @RateLimit('polling')
  @Allow('command:read')
  @TakesTicket({ when: ({ follow }) => follow === 'true' })
  @ApiOperation({
    summary: 'Read what a command printed, byte-exact, once or as it comes',
    operationId: 'getCommandLogs',
    description:
      'With `follow=true` a stream of server-sent events: `output` (data: one chunk; id: the offset after it) and at the ' +
      'end `complete`. `Last-Event-ID` resumes.',
  })
  @ApiOkResponse({
    content: {
      'application/json': { schema: { $ref: getSchemaPath(CommandLogDto) } },
      'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
      'text/event-stream': { schema: { type: 'string' } },
    },
  })
  async read(
    @CurrentActor() actor: Actor,
    @IdParam('cmd') id: string,
    @Query() query: CommandLogQueryDto,
    @Headers('last-event-id') lastEventId: string | undefined,
    @Headers('authorization') authorization: string | undefined,
    @Headers('x-api-key') apiKey: string | undefined,
    @Ip() ip: string,
    @Res() response: Response,
  ): Promise<void> {
    if (query.follow === 'true') {
      const headers = currentContext()?.ticket?.headers ?? { authorization, 'x-api-key': apiKey };
      return this.stream({ actor, headers, ip }, id, resumeFrom(query.after, lastEventId), response);
    }
    const page = await this.logs.page(actor, id, query.after ?? 0);
    if (query.format === 'raw') {
      response
        .set({ 'X-Next-Offset': String(page.nextOffset), 'X-Complete': String(page.complete) })
        .type('application/octet-stream')
        .send(Buffer.concat(page.chunks.map((chunk) => chunk.data)));
      return;
    }
    response.json({
      command_id: publicId('cmd', id),
      chunks: page.chunks.map(toChunkDto),
      next_offset: page.nextOffset,
      complete: page.complete,
    } satisfies CommandLogDto);
  }

  private async stream(reader: CredentialHolder, id: string, after: number, response: Response): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    let keepalive: NodeJS.Timeout | undefined;
    try {
      await this.logs.follow(reader, id, after, gone.signal, async (page, ended) => {
        // Whoever may not read it, or asks for what is not there, gets an ordinary refusal before this.
        keepalive ??= open(response);
        for (const chunk of page.chunks) {
          await send(response, ended, 'output', chunk.offset + chunk.data.length, toChunkDto(chunk));
        }
        if (page.complete) await send(response, ended, 'complete', page.nextOffset, endOf(page));
      });
    } finally {
      clearInterval(keepalive);
      // An end would wait for a reader that takes nothing.
      if (response.writableNeedDrain) response.destroy();
      else if (keepalive) response.end();
    }
  }
}

/** Begins the stream. @returns what keeps it alive */
function open(response: Response): NodeJS.Timeout {
  response
    .status(200)
    .set({
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-cache, no-transform',
      'X-Accel-Buffering': 'no',
    })
    .write(': the output of the command follows\n\n');
  return setInterval(() => response.write(': keepalive\n\n'), KEEPALIVE_MS);
}

/** Waits for a slow reader, so that no more than one event is held for it, and cuts one that has stalled. */
async function send(response: Response, ended: AbortSignal, event: string, id: number, data: object): Promise<void> {
  if (ended.aborted) return;
  const fits = response.write(`id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  if (fits) return;
  const stalled = AbortSignal.timeout(STALL_MS);
  await once(response, 'drain', { signal: AbortSignal.any([ended, stalled]) }).catch(() => undefined);
  if (stalled.aborted && response.writableNeedDrain) response.destroy();
}

function resumeFrom(after: number | undefined, lastEventId: string | undefined): number {
  if (lastEventId === undefined || lastEventId === '') return after ?? 0;
  if (!/^\d{1,15}$/.test(lastEventId)) {
    throw AppError.validation({
      field: 'Last-Event-ID',
      issue: 'is not an id of this stream',
      expected: 'the id of an event of this stream',
      location: 'header',
    });
  }
  return Number(lastEventId);
}

/** Text where the bytes are whole characters, else Base64: either way the exact bytes. */
function toChunkDto({ offset, stream, data }: OutputChunk): OutputChunkDto {
  const text = data.toString('utf8');
  const exact = Buffer.from(text, 'utf8').equals(data);
  return {
    offset,
    length: data.length,
    stream,
    encoding: exact ? 'utf8' : 'base64',
    data: exact ? text : data.toString('base64'),
  };
}
