import { Controller, Get, HttpStatus, Req, Res } from '@nestjs/common';
import {
  ApiExtraModels,
  ApiForbiddenResponse,
  ApiOkResponse,
  ApiOperation,
  ApiServiceUnavailableResponse,
  ApiTags,
  ApiUnauthorizedResponse,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Settings } from '../platform/config/index.js';
import { Audit, OpenAccess, Public, RateLimit, Wire } from '../platform/http/index.js';
import { HealthService } from './health.service.js';
import { ComponentHealthDto, DetailedHealthDto, HealthDto, ProbeDto, ShortHealthDto } from './system.dto.js';
import { SystemSettings } from './system.settings.js';

/** Probes at the root of the server, for load balancers and orchestrators; answered in every role. */
@ApiTags('system')
@ApiExtraModels(ComponentHealthDto)
@Wire('raw')
@RateLimit('none')
@Audit('minute')
@Controller()
export class ProbesController {
  constructor(
    private readonly health: HealthService,
    private readonly access: OpenAccess,
    private readonly server: Settings,
    private readonly settings: SystemSettings,
  ) {}

  @Get('health')
  @Public()
  @ApiOperation({ summary: 'How the server is', operationId: 'rootHealth' })
  @ApiOkResponse({ type: HealthDto })
  @ApiServiceUnavailableResponse({ type: HealthDto, description: 'A vital part does not work' })
  async root(@Res({ passthrough: true }) response: Response): Promise<HealthDto> {
    return answer(response, await this.health.full());
  }

  @Get('health/detailed')
  @Public()
  @ApiOperation({
    summary: 'How each part of the server is',
    description:
      'Needs the scope `system:read` unless `NEXUS_HEALTH_PUBLIC` is on; not set, it is on while the server listens on a loopback address only.',
    operationId: 'detailedHealth',
  })
  @ApiOkResponse({ type: DetailedHealthDto })
  @ApiServiceUnavailableResponse({ type: DetailedHealthDto, description: 'A vital part does not work' })
  @ApiUnauthorizedResponse()
  @ApiForbiddenResponse()
  async detailed(@Req() request: Request, @Res({ passthrough: true }) response: Response): Promise<DetailedHealthDto> {
    await this.access.require(request, this.settings.healthPublic ?? this.server.loopbackOnly, 'system:read');
    return answer(response, await this.health.detailed());
  }

  @Get('healthz')
  @Public()
  @ApiOperation({ summary: 'Liveness: the process answers', operationId: 'liveness' })
  @ApiOkResponse({ type: ProbeDto })
  alive(): ProbeDto {
    return { status: 'alive' };
  }

  @Get('readyz')
  @Public()
  @ApiOperation({ summary: 'Readiness: send traffic here', operationId: 'readiness' })
  @ApiOkResponse({ type: ProbeDto })
  @ApiServiceUnavailableResponse({ type: ProbeDto, description: 'Starting, draining, failed or unhealthy' })
  async ready(@Res({ passthrough: true }) response: Response): Promise<ProbeDto> {
    return probe(response, await this.health.readiness(), 'ready');
  }

  @Get('startup')
  @Public()
  @ApiOperation({ summary: 'Startup: the server has finished starting', operationId: 'startup' })
  @ApiOkResponse({ type: ProbeDto })
  @ApiServiceUnavailableResponse({ type: ProbeDto, description: 'Starting, or the start failed' })
  startup(@Res({ passthrough: true }) response: Response): ProbeDto {
    return probe(response, this.health.startup(), 'started');
  }

  // The optional slash keeps this route apart from the root one, which is exempt from the prefix.
  @Get('health{/}')
  @Public()
  @ApiOperation({ summary: 'How the server is, in short', operationId: 'healthCheck' })
  @ApiOkResponse({ type: ShortHealthDto })
  @ApiServiceUnavailableResponse({ type: ShortHealthDto, description: 'A vital part does not work' })
  async short(@Res({ passthrough: true }) response: Response): Promise<ShortHealthDto> {
    return answer(response, await this.health.short());
  }
}

function answer<T extends ShortHealthDto>(response: Response, health: T): T {
  if (health.status === 'unhealthy') response.status(HttpStatus.SERVICE_UNAVAILABLE);
  return health;
}

function probe(response: Response, status: string, good: string): ProbeDto {
  if (status !== good) response.status(HttpStatus.SERVICE_UNAVAILABLE);
  return { status };
}
