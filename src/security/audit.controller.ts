import { Controller, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Allow, Wire } from '../platform/http/index.js';
import { AuditListDto, AuditQueryDto } from './audit.dto.js';
import { AuditService } from './audit.service.js';

@ApiTags('security')
@Wire('raw')
@Controller('security/audit')
export class AuditController {
  constructor(private readonly audit: AuditService) {}

  @Get()
  @Allow('security:admin')
  @ApiOperation({
    summary: 'List audit entries, newest first',
    description:
      'Every API request is in the trail, refused ones and reads included. Counts of a minute follow a good minute later.',
    operationId: 'auditList',
  })
  @ApiOkResponse({ type: AuditListDto })
  list(@Query() query: AuditQueryDto): Promise<AuditListDto> {
    return this.audit.list(query);
  }
}
