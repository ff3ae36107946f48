import { Body, Controller, Delete, Get, HttpCode, Post, Query } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Allow, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import {
  DeadLetterDetailDto,
  DeadLetterDto,
  DeadLetterListDto,
  DeadLetterQueryDto,
  DiscardedDeadLetterDto,
  RetriedDeadLettersDto,
  RetryDeadLettersDto,
} from './dead-letters.dto.js';
import { DeadLettersService } from './dead-letters.service.js';

@ApiTags('events')
@Wire('envelope')
@Controller('events/dead-letters')
export class DeadLettersController {
  constructor(private readonly deadLetters: DeadLettersService) {}

  @Get()
  @Allow('admin:system')
  @ApiOperation({
    summary: 'List events that a handler of the server could not take in all its attempts, the newest first',
    operationId: 'listDeadLetters',
  })
  @ApiOkResponse({ type: DeadLetterListDto })
  list(@Query() query: DeadLetterQueryDto): Promise<DeadLetterListDto> {
    return this.deadLetters.list(query);
  }

  @Post('retry')
  @HttpCode(202)
  @Allow('admin:system')
  @ApiOperation({ summary: 'Give a handler all its dead letters again', operationId: 'retryDeadLetters' })
  @ApiAcceptedResponse({ type: RetriedDeadLettersDto })
  retryAll(@Body() { handler }: RetryDeadLettersDto): Promise<RetriedDeadLettersDto> {
    return this.deadLetters.retryAll(handler);
  }

  @Get(':id')
  @Allow('admin:system')
  @ApiOperation({ summary: 'Show a dead letter with its event', operationId: 'getDeadLetter' })
  @ApiOkResponse({ type: DeadLetterDetailDto })
  get(@IdParam('dead') id: string): Promise<DeadLetterDetailDto> {
    return this.deadLetters.get(id);
  }

  @Post(':id/retry')
  @HttpCode(202)
  @Allow('admin:system')
  @ApiOperation({ summary: 'Give a dead letter to its handler again', operationId: 'retryDeadLetter' })
  @ApiAcceptedResponse({ type: DeadLetterDto })
  retry(@IdParam('dead') id: string): Promise<DeadLetterDto> {
    return this.deadLetters.retry(id);
  }

  @Delete(':id')
  @Allow('admin:system')
  @ApiOperation({ summary: 'Discard a dead letter for good', operationId: 'discardDeadLetter' })
  @ApiOkResponse({ type: DiscardedDeadLetterDto })
  async discard(@IdParam('dead') id: string): Promise<DiscardedDeadLetterDto> {
    await this.deadLetters.discard(id);
    return { dead_letter_id: publicId('dead', id), status: 'discarded' };
  }
}
