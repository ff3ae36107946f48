import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsIn, IsInt, IsOptional, Max, Min } from 'class-validator';
import { TicketQueryDto } from '../platform/http/index.js';

export class CommandLogQueryDto extends TicketQueryDto {
  @ApiPropertyOptional({ type: 'integer', example: 0, minimum: 0, description: 'Offset of the first byte wanted.' })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(0)
  @Max(Number.MAX_SAFE_INTEGER)
  after?: number;

  @ApiPropertyOptional({ enum: ['true', 'false'], example: 'true', description: 'A stream of server-sent events.' })
  @IsOptional()
  @IsIn(['true', 'false'])
  follow?: 'true' | 'false';

  @ApiPropertyOptional({ enum: ['json', 'raw'], example: 'json', description: '`raw`: the bytes themselves.' })
  @IsOptional()
  @IsIn(['json', 'raw'])
  format?: 'json' | 'raw';
}

export class OutputChunkDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) offset!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 6, description: 'In bytes.' }) length!: number;
  @ApiProperty({ enum: ['stdout', 'stderr'], example: 'stdout' }) stream!: string;
  @ApiProperty({ enum: ['utf8', 'base64'], example: 'utf8' }) encoding!: string;
  @ApiProperty({ example: 'hello\n' }) data!: string;
}

export class CommandLogDto {
  @ApiProperty({ example: 'cmd_550e8400-e29b-41d4-a716-446655440000' }) command_id!: string;
  @ApiProperty({ type: [OutputChunkDto] }) chunks!: OutputChunkDto[];
  @ApiProperty({ type: 'integer', minimum: 0, example: 6, description: '`after` of the next request.' })
  next_offset!: number;
  @ApiProperty({ example: true, description: 'The command has ended and nothing follows.' }) complete!: boolean;
}
