import { Controller, Delete, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../../platform/context/index.js';
import { Allow, CurrentActor, PageQueryDto, resolvePage, Wire } from '../../platform/http/index.js';
import { IdParam } from '../../platform/ids/index.js';
import { MessageDto, SessionListDto, SessionsEndedDto } from './auth.dto.js';
import { SessionsService } from './sessions.service.js';

@ApiTags('auth')
@Wire('envelope')
@Allow()
@Controller('auth/sessions')
export class SessionsController {
  constructor(private readonly sessions: SessionsService) {}

  @Get()
  @ApiOperation({ summary: 'List the own live sessions, newest first', operationId: 'authSessionsList' })
  @ApiOkResponse({ type: SessionListDto })
  list(@CurrentActor() actor: Actor, @Query() query: PageQueryDto): Promise<SessionListDto> {
    return this.sessions.list(actor, resolvePage(query, { default: 20, max: 100 }));
  }

  @Delete()
  @ApiOperation({ summary: 'End all own sessions but this one', operationId: 'authSessionsEndOthers' })
  @ApiOkResponse({ type: SessionsEndedDto })
  async endOthers(@CurrentActor() actor: Actor): Promise<SessionsEndedDto> {
    return { message: 'Other sessions have ended', ended: await this.sessions.endOthers(actor) };
  }

  @Delete(':id')
  @ApiOperation({ summary: 'End an own session', operationId: 'authSessionEnd' })
  @ApiOkResponse({ type: MessageDto })
  async end(@CurrentActor() actor: Actor, @IdParam('sess') id: string): Promise<MessageDto> {
    await this.sessions.end(actor, id);
    return { message: 'The session has ended' };
  }
}
