import { Controller, Get, HttpCode, Post } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../../platform/context/index.js';
import { Allow, CurrentActor, RateLimit, Wire } from '../../platform/http/index.js';
import { IdParam } from '../../platform/ids/index.js';
import { ReencryptionDto } from './reencryptions.dto.js';
import { ReencryptionsService } from './reencryptions.service.js';

@ApiTags('system')
@Wire('envelope')
@Controller('system/reencryptions')
export class ReencryptionsController {
  constructor(private readonly reencryptions: ReencryptionsService) {}

  @Post()
  @HttpCode(202)
  @Allow('admin:system')
  @ApiOperation({
    summary: 'Encrypt all stored secrets with the first master key',
    description:
      'The last step before an older key is taken out of NEXUS_MASTER_KEYS. 409 while a process still encrypts with another key.',
    operationId: 'startReencryption',
  })
  @ApiAcceptedResponse({ type: ReencryptionDto })
  start(@CurrentActor() actor: Actor): Promise<ReencryptionDto> {
    return this.reencryptions.start(actor);
  }

  @Get(':id')
  @Allow('admin:system')
  @RateLimit('polling')
  @ApiOperation({
    summary: 'Get the progress of a re-encryption and the keys still in use',
    operationId: 'getReencryption',
  })
  @ApiOkResponse({ type: ReencryptionDto })
  get(@IdParam('rekey') id: string): Promise<ReencryptionDto> {
    return this.reencryptions.get(id);
  }
}
