import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { JWK } from 'jose';
import { Public, Wire } from '../../platform/http/index.js';
import { AccessTokens } from '../access/access-tokens.js';
import { KeySetDto } from './auth.dto.js';

/** Speaks the format of RFC 7517, so it has no envelope. */
@ApiTags('auth')
@Wire('raw')
@Controller('auth/jwks')
export class JwksController {
  constructor(private readonly tokens: AccessTokens) {}

  @Get()
  @Public()
  @ApiOperation({
    summary: 'Public keys that access tokens can be checked with',
    description: 'A JSON Web Key Set (RFC 7517); empty while tokens are signed with a secret (HS256).',
    operationId: 'authJwks',
  })
  @ApiOkResponse({ type: KeySetDto })
  keySet(): { keys: JWK[] } {
    return { keys: [...this.tokens.published] };
  }
}
