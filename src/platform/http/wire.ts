import {
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  SetMetadata,
  applyDecorators,
  StreamableFile,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { ApiExtension } from '@nestjs/swagger';
import { map, type Observable } from 'rxjs';
import type { Request, Response } from 'express';
import { currentContext } from '../context/index.js';
import { weakETag } from './etag.js';

const WIRE = 'nexus:wire';
export const SUCCESS_MESSAGE = 'Operation completed successfully';

/** The shape of success bodies: `envelope` wraps them in `{success, data, message, timestamp, request_id}`, `raw` does not. */
export type WireProfile = 'envelope' | 'raw';

/** One profile per controller. A request cannot override it. */
export const Wire = (profile: WireProfile): ClassDecorator & MethodDecorator =>
  applyDecorators(SetMetadata(WIRE, profile), ApiExtension('x-wire', profile));

@Injectable()
export class WireInterceptor implements NestInterceptor {
  constructor(private readonly reflector: Reflector) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const profile = this.reflector.getAllAndOverride<WireProfile | undefined>(WIRE, [
      context.getHandler(),
      context.getClass(),
    ]);
    return next.handle().pipe(
      map((data: unknown) => {
        if (profile !== 'envelope' || data === undefined || data instanceof StreamableFile) return data;
        const http = context.switchToHttp();
        const response = http.getResponse<Response>();
        if (http.getRequest<Request>().method === 'GET' && !response.hasHeader('ETag')) {
          response.setHeader('ETag', weakETag(data));
        }
        return {
          success: true,
          data,
          message: SUCCESS_MESSAGE,
          timestamp: new Date().toISOString(),
          request_id: currentContext()?.requestId,
        };
      }),
    );
  }
}
