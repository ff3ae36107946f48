import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import { ArrayMaxSize, ArrayMinSize, IsArray, IsOptional, IsString, MaxLength } from 'class-validator';
import { TicketQueryDto } from '../platform/http/index.js';

export class StreamQueryDto extends TicketQueryDto {
  @ApiPropertyOptional({
    example: 'commands.status,telemetry.*',
    description: 'Channels and wildcards, comma-separated; without channels and patterns all that may be read.',
  })
  @IsOptional()
  @IsString()
  @MaxLength(2000)
  channels?: string;

  @ApiPropertyOptional({
    example: 'command.*,*.created',
    description: 'Patterns of event types, comma-separated or one by one.',
  })
  @Transform(({ value }: { value: unknown }) => (Array.isArray(value) ? value.join() : value))
  @IsOptional()
  @IsString()
  @MaxLength(2000)
  patterns?: string;

  @ApiPropertyOptional({
    example: '{"command_type":["system.restart","system.ping"]}',
    description: 'JSON object: wanted values, one or a list per field; all fields must fit.',
  })
  @IsOptional()
  @IsString()
  @MaxLength(10_000)
  filters?: string;

  @ApiPropertyOptional({
    description: 'Id of a saved subscription (`sub_…`), instead of channels, patterns and filters.',
  })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  subscription_id?: string;

  @ApiPropertyOptional({
    example: 'evt_550e8400-e29b-41d4-a716-446655440000',
    description: 'Id of the last event that was seen, where the header `Last-Event-ID` cannot be sent.',
  })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  last_event_id?: string;
}

export class CreateTicketDto {
  @ApiPropertyOptional({
    type: [String],
    example: ['commands.status'],
    description: 'The only channels it is good for.',
  })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @MaxLength(100, { each: true })
  channels?: string[];
}

export class TicketDto {
  @ApiProperty({
    example: 'nexus_ticket_4fK2mQ9x_…',
    description:
      'Opens one WebSocket, `/api/v1/stream?ticket=…`, or one event stream, `/api/v1/events/stream?ticket=…`.',
  })
  ticket!: string;

  @ApiProperty({ type: 'integer', minimum: 0, example: 60, description: 'Seconds it can be used, once.' })
  expires_in!: number;
}
