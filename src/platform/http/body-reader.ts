import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import { Injectable } from '@nestjs/common';
import { Semaphore } from '../concurrency/index.js';
import { AppError } from '../errors/index.js';
import type { BodyShare } from './body-budget.js';
import { type BodyLimits, parseJsonBody } from './body-guard.js';

export interface JsonBody {
  /** Exact bytes, decompressed. */
  raw: Buffer;
  value: unknown;
}

const JSON_LIMITS: BodyLimits = { maxDepth: 64, maxKeys: 10_000, maxValues: 100_000, maxKeyLength: 256 };
/** Limits of bodies sent without a credential. None of them needs more than 64 labels and some fields. */
export const STRANGER_LIMITS: BodyLimits = { ...JSON_LIMITS, maxKeys: 80 };

/** A body larger than `SMALL_OUTPUT` may be at most this many times as large as its compressed form. */
const MAX_EXPANSION = 100;
const SMALL_OUTPUT = 64 * 1024;

const DECOMPRESSORS = new Map([
  ['gzip', promisify(gunzip)],
  ['x-gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
  ['br', promisify(brotliDecompress)],
]);

/**
 * Reads the bodies of requests. A compressed body is decompressed once it is complete, a few at a time and only up to its limit, so
 * that neither slow clients nor decompression bombs cost much.
 */
@Injectable()
export class BodyReader {
  private readonly decompressions = new Semaphore(2, {
    maxQueue: 1000,
    maxWaitMs: 5000,
    refusal: () => AppError.unavailable('Too many compressed bodies at once; try again shortly'),
  });

  /**
   * Reads and checks a JSON body of at most `maxBytes`, decompressed; undefined when there is none.
   * @throws AppError `unsupported_media`, `too_large`, `unavailable`, `validation` with the path of what is wrong
   */
  readJson(
    request: IncomingMessage,
    share: BodyShare,
    maxBytes: number,
    limits = JSON_LIMITS,
  ): Promise<JsonBody> | undefined {
    return this.read(request, share, maxBytes, (raw) => ({ raw, value: parseJson(raw, limits) }));
  }

  /**
   * Reads the bytes of a JSON body that is parsed later, by {@link parseJson}; undefined when there is none.
   * @throws AppError `unsupported_media`, `too_large`, `unavailable`, `validation`
   */
  readRaw(request: IncomingMessage, share: BodyShare, maxBytes: number): Promise<Buffer> | undefined {
    return this.read(request, share, maxBytes, (raw) => raw);
  }

  private read<T>(
    request: IncomingMessage,
    share: BodyShare,
    maxBytes: number,
    finish: (raw: Buffer) => T,
  ): Promise<T> | undefined {
    const { headers } = request;
    if (headers['transfer-encoding'] === undefined && !(Number(headers['content-length']) > 0)) return undefined;
    if (!isJson(headers['content-type'])) {
      throw new AppError('unsupported_media', 'The body must be JSON (Content-Type: application/json)');
    }
    const coding = (headers['content-encoding'] ?? 'identity').toLowerCase();
    if (coding === 'identity') return collect(request, share, maxBytes, finish);
    return this.unpacked(request, share, coding, maxBytes).then(finish);
  }

  private async unpacked(
    request: IncomingMessage,
    share: BodyShare,
    coding: string,
    maxBytes: number,
  ): Promise<Buffer> {
    const decompress = DECOMPRESSORS.get(coding);
    if (!decompress) {
      throw new AppError('unsupported_media', `The content coding ${coding.slice(0, 40)} is not supported`);
    }
    const packed = await collect(request, share, maxBytes, (raw) => raw);
    const maxOutputLength = Math.min(maxBytes, Math.max(SMALL_OUTPUT, packed.length * MAX_EXPANSION));
    if (!share.take(maxOutputLength)) throw noRoom();
    try {
      const raw = await this.decompressions.run(() => decompress(packed, { maxOutputLength }));
      share.giveBack(maxOutputLength - raw.length + packed.length);
      return raw;
    } catch (error) {
      if (error instanceof AppError) throw error;
      if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE') throw unreadable('could not be read');
      throw maxOutputLength === maxBytes
        ? tooLarge(maxBytes)
        : new AppError('too_large', `The body is more than ${MAX_EXPANSION} times as large as its compressed form`);
    }
  }
}

/** Collects at most `maxBytes`, while the share has room, and resolves with the result of `finish`. One promise serves the whole body. */
function collect<T>(
  request: IncomingMessage,
  share: BodyShare,
  maxBytes: number,
  finish: (raw: Buffer) => T,
): Promise<T> {
  if (Number(request.headers['content-length']) > maxBytes) return Promise.reject(tooLarge(maxBytes));
  // The client disconnected before the body was read.
  if (request.destroyed) return Promise.reject(unreadable('ended early'));
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let ended = false;
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > maxBytes) fail(tooLarge(maxBytes));
      else if (!share.takeChunk(chunk.length)) fail(noRoom());
      else chunks.push(chunk);
    };
    const fail = (error: Error): void => {
      chunks.length = 0;
      share.hasArrived();
      // The rest of the body is discarded until the answer ends the connection.
      request.off('data', take).resume();
      reject(error);
    };
    const end = (): void => {
      ended = true;
      share.hasArrived();
      try {
        resolve(finish(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
      } catch (error) {
        fail(error as Error);
      }
    };
    share.arrives(() => fail(noRoom()));
    request
      .on('data', take)
      .on('end', end)
      .on('error', () => fail(unreadable('could not be read')))
      .on('close', () => {
        if (!ended) fail(unreadable('ended early'));
      });
  });
}

/** @throws AppError `validation` with the path of what is wrong */
export function parseJson(raw: Buffer, limits = JSON_LIMITS): unknown {
  const parsed = parseJsonBody(raw, limits);
  if ('problem' in parsed) {
    throw AppError.validation({ field: parsed.problem.path, issue: parsed.problem.reason, location: 'body' });
  }
  return parsed.value;
}

function tooLarge(limit: number): AppError {
  return new AppError('too_large', `The body is larger than ${limit} bytes`, { details: { limit_bytes: limit } });
}

function noRoom(): AppError {
  return AppError.unavailable('Too many bytes are being received at once; try again shortly');
}

function unreadable(what: string): AppError {
  return AppError.validation({ field: '', issue: `the body ${what}`, expected: 'a whole body', location: 'body' });
}

/** `application/json` or any `application/*+json`, with or without parameters. */
function isJson(contentType: string | undefined): boolean {
  return contentType !== undefined && /^application\/(?:[a-z0-9.+-]+\+)?json(?:\s*;.*)?$/i.test(contentType.trim());
}
