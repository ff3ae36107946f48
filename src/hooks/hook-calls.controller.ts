import { applyDecorators, Controller, HttpCode, Param, Post, Req, Res } from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiHeader,
  ApiOperation,
  ApiParam,
  ApiTags,
  ApiTooManyRequestsResponse,
  ApiUnauthorizedResponse,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit, MaxBody, NotIdempotent, Public, RateLimit, UnparsedBody, Wire } from '../platform/http/index.js';
import { HookCalls } from './hook-calls.service.js';
import { ReceivedCallDto } from './hooks.dto.js';

const SIGNATURES = [
  ['webhook-id', 'msg_2a7e', 'Scheme `standard`: the same for every try of one message'],
  ['webhook-timestamp', '1762134900', 'Scheme `standard`: Unix seconds, within five minutes'],
  [
    'webhook-signature',
    'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
    'Scheme `standard`: HMAC-SHA256 of id, time and body',
  ],
  ['X-Nexus-Signature', 'sha256=5257a869...', 'Scheme `nexus`: HMAC-SHA256 of the body'],
  ['X-Hub-Signature-256', 'sha256=5257a869...', 'Scheme `github`: HMAC-SHA256 of the body'],
];

const SignatureHeaders = (): MethodDecorator =>
  applyDecorators(
    ...SIGNATURES.map(([name, example, description]) =>
      ApiHeader({ name, description, required: false, schema: { type: 'string', example } }),
    ),
  );

/** Callers have no account here: the signature over the exact bytes of the body proves who they are. */
@ApiTags('hooks')
@Wire('raw')
@Audit('minute')
@Controller('hooks')
export class HookCallsController {
  constructor(private readonly calls: HookCalls) {}

  @Post(':name')
  @HttpCode(202)
  @Public()
  // Counted by the service: per hook once the signature is right, per address before.
  @RateLimit('none')
  @MaxBody(256 * 1024)
  @UnparsedBody()
  @NotIdempotent()
  @ApiOperation({
    summary: 'Call a hook with a signed body, which becomes an event',
    description: 'A wrong signature, an unknown name and a disabled hook are answered alike.',
    operationId: 'callHook',
  })
  @ApiParam({ name: 'name', schema: { type: 'string', example: 'github' }, description: 'Name of the hook.' })
  @SignatureHeaders()
  @ApiBody({ schema: { type: 'object', additionalProperties: true, example: { ref: 'refs/heads/main' } } })
  @ApiAcceptedResponse({ type: ReceivedCallDto })
  @ApiUnauthorizedResponse()
  @ApiTooManyRequestsResponse()
  receive(
    @Param('name') name: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ReceivedCallDto> {
    const { headers, rawBody: raw } = request;
    return this.calls.receive({ name, headers, raw }, response);
  }
}
