import { Body, Controller, Get, Headers, HttpCode, Post, Put } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiResponse, ApiTags, ApiUnauthorizedResponse } from '@nestjs/swagger';
import type { IncomingHttpHeaders } from 'node:http';
import type { Actor } from '../../platform/context/index.js';
import { AppError } from '../../platform/errors/index.js';
import { Allow, CurrentActor, MaxBody, NotIdempotent, Public, RateLimit, Wire } from '../../platform/http/index.js';
import { publicId } from '../../platform/ids/index.js';
import { AccountService } from './account.service.js';
import {
  ChangePasswordDto,
  CheckPermissionsDto,
  LoginDto,
  LoginResultDto,
  MeDto,
  MessageDto,
  PermissionsDto,
  RefreshDto,
  TokensDto,
  VerifyDto,
} from './auth.dto.js';
import { LoginService } from './login.service.js';
import { Sessions } from './sessions.js';
import { loginOwnerOf, toUserDto } from './users.js';

@ApiTags('auth')
@Wire('envelope')
@Controller('auth')
export class AuthController {
  constructor(
    private readonly logins: LoginService,
    private readonly sessions: Sessions,
    private readonly account: AccountService,
  ) {}

  @Post('login')
  @MaxBody(16 * 1024)
  @HttpCode(200)
  @Public()
  @RateLimit('auth')
  @NotIdempotent()
  @ApiOperation({
    summary: 'Log in with a password',
    description:
      'After five failures a network must wait before it may try the account again (423), longer each time; an IPv6 address counts with its /64. Networks that have never logged in are also slowed down together, and stopped for a day at a hundred failures in a row.',
    operationId: 'authLogin',
  })
  @ApiOkResponse({ type: LoginResultDto })
  @ApiUnauthorizedResponse()
  @ApiResponse({ status: 423 })
  async login(@Body() body: LoginDto): Promise<LoginResultDto> {
    const { user, session, tokens } = await this.logins.login(body.username, body.password, body.remember_me ?? true);
    return {
      user: toUserDto(user),
      tokens,
      session: { session_id: publicId('sess', session.id), expires_at: session.expiresAt.toISOString() },
    };
  }

  @Post('logout')
  @HttpCode(200)
  @Allow()
  @ApiOperation({ summary: 'End the session of this request', operationId: 'authLogout' })
  @ApiOkResponse({ type: MessageDto })
  async logout(@CurrentActor() actor: Actor): Promise<MessageDto> {
    await this.logins.logout(actor);
    return { message: 'Logged out' };
  }

  @Post('refresh')
  @MaxBody(16 * 1024)
  @HttpCode(200)
  @Public()
  @RateLimit('auth')
  @NotIdempotent()
  @ApiOperation({
    summary: 'Exchange a refresh token for new tokens',
    description: 'A refresh token is good for one use; using it again ends the session.',
    operationId: 'authRefresh',
  })
  @ApiOkResponse({ type: TokensDto })
  @ApiUnauthorizedResponse()
  refresh(@Body() body: RefreshDto): Promise<TokensDto> {
    return this.sessions.refresh(body.refresh_token);
  }

  @Get('verify')
  @Allow()
  @ApiOperation({ summary: 'Check the credential of this request', operationId: 'authVerify' })
  @ApiOkResponse({ type: VerifyDto })
  async verify(@CurrentActor() actor: Actor, @Headers() headers: IncomingHttpHeaders): Promise<VerifyDto> {
    return {
      valid: true,
      user: await this.account.who(actor),
      token_info: await this.account.tokenInfo(actor, headers),
    };
  }

  @Get('me')
  @Allow()
  @ApiOperation({ summary: 'Show who is acting', operationId: 'authMe' })
  @ApiOkResponse({ type: MeDto })
  async me(@CurrentActor() actor: Actor): Promise<MeDto> {
    return { user: await this.account.who(actor) };
  }

  @Put('password')
  @Allow()
  @ApiOperation({
    summary: 'Change the own password',
    description:
      'Ends every other session of the user. A new password that is too weak is refused as `WEAK_PASSWORD`. A wrong current password counts as a failed login; a key needs the scope user:admin.',
    operationId: 'authPasswordChange',
  })
  @ApiOkResponse({ type: MessageDto })
  @ApiResponse({ status: 423 })
  async changePassword(@CurrentActor() actor: Actor, @Body() body: ChangePasswordDto): Promise<MessageDto> {
    const userId = loginOwnerOf(actor);
    if (body.new_password !== body.confirm_password) {
      throw AppError.validation({ field: 'confirm_password', issue: 'must equal new_password', location: 'body' });
    }
    await this.logins.changePassword(actor, userId, body.current_password, body.new_password);
    return { message: 'The password was changed; other sessions have ended' };
  }

  @Post('check-permissions')
  @HttpCode(200)
  @Allow()
  @ApiOperation({ summary: 'Check which permissions the caller holds', operationId: 'authPermissionsCheck' })
  @ApiOkResponse({ type: PermissionsDto })
  checkPermissions(@CurrentActor() actor: Actor, @Body() body: CheckPermissionsDto): PermissionsDto {
    const checked = this.account.check(actor, body.permissions);
    return { permissions: Object.fromEntries(checked), has_all: [...checked.values()].every(Boolean) };
  }
}
