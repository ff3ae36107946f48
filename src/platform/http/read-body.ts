import type { IncomingMessage } from 'node:http';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import { AppError } from '../errors/index.js';

/**
 * Collects a request body, decompressed, at most `limit` bytes.
 * @throws AppError `too_large`, `unsupported_media` (unknown coding), `validation` (broken compression, client gone)
 */
export function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const coding = (request.headers['content-encoding'] ?? 'identity').toLowerCase();
  if (coding === 'identity' && Number(request.headers['content-length'] ?? 0) > limit) {
    return Promise.reject(tooLarge(limit));
  }
  const stream = coding === 'identity' ? request : request.pipe(decompressor(coding));
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const fail = (error: AppError): void => {
      chunks.length = 0;
      // What is still coming is thrown away unread; the answer closes the connection.
      request.unpipe();
      request.resume();
      reject(error);
    };
    stream.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) fail(tooLarge(limit));
      else chunks.push(chunk);
    });
    stream.on('end', () => resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
    stream.on('error', () =>
      fail(AppError.validation({ field: '', issue: 'the body could not be read', location: 'body' })),
    );
    request.on('close', () => {
      if (!request.complete) fail(AppError.validation({ field: '', issue: 'the body ended early', location: 'body' }));
    });
  });
}

function decompressor(coding: string): NodeJS.ReadWriteStream {
  if (coding === 'gzip' || coding === 'x-gzip') return createGunzip();
  if (coding === 'deflate') return createInflate();
  if (coding === 'br') return createBrotliDecompress();
  throw new AppError('unsupported_media', `The content coding ${coding.slice(0, 40)} is not supported`);
}

function tooLarge(limit: number): AppError {
  return new AppError('too_large', `The body is larger than ${limit} bytes`, { details: { limit_bytes: limit } });
}

/** `application/json` or any `application/*+json`, with or without parameters. */
export function isJson(contentType: string | undefined): boolean {
  return contentType !== undefined && /^application\/(?:[a-z0-9.+-]+\+)?json(?:\s*;.*)?$/i.test(contentType.trim());
}
