import { Controller, Get, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { Audit, Public, Wire } from '../platform/http/index.js';
import { AGENT_PACKAGE_PATH, AgentPackage } from './agent-package.js';

@ApiTags('agents')
@Wire('raw')
@Audit('minute')
@Controller()
export class AgentPackageController {
  constructor(private readonly agentPackage: AgentPackage) {}

  @Get(AGENT_PACKAGE_PATH)
  @Public()
  @ApiOperation({
    operationId: 'downloadAgent',
    summary: 'Download the agent that belongs to this server',
    description:
      'An npm package with everything it needs inside. Check it against the `agent_sha256` of a join token before running it.',
  })
  @ApiProduces('application/gzip')
  @ApiOkResponse({ schema: { type: 'string', format: 'binary' } })
  async download(@Res() response: Response): Promise<void> {
    const { bytes } = await this.agentPackage.get();
    response.type('application/gzip').send(bytes);
  }
}
