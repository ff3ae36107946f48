import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';

const STATUSES = ['healthy', 'degraded', 'unhealthy'] as const;

export class ShortHealthDto {
  @ApiProperty({ enum: STATUSES, example: 'healthy' }) status!: (typeof STATUSES)[number];
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:54:00.000Z' }) timestamp!: string;
  @ApiProperty({ example: '0.1.0' }) version!: string;
}

export class HealthDto extends ShortHealthDto {
  @ApiProperty({ example: 3600.5, description: 'Seconds since the process started.' }) uptime!: number;
  @ApiPropertyOptional({
    type: 'integer',
    minimum: 0,
    example: 3,
    description: 'Login sessions that are live; absent where nobody counts them.',
  })
  active_sessions?: number;
}

export class ComponentHealthDto {
  @ApiProperty({ enum: STATUSES, example: 'healthy' }) status!: (typeof STATUSES)[number];
  @ApiProperty({ example: 1.4, description: 'Milliseconds the check took.' }) response_time_ms!: number;
  @ApiPropertyOptional({ type: 'object', additionalProperties: true, example: { connections_active: 2 } })
  details?: Record<string, unknown>;
}

export class DetailedHealthDto extends ShortHealthDto {
  @ApiProperty({
    type: 'object',
    additionalProperties: { $ref: '#/components/schemas/ComponentHealthDto' },
    example: { database: { status: 'healthy', response_time_ms: 1.4, details: { connections_active: 2 } } },
  })
  components!: Record<string, ComponentHealthDto>;
}

export class ProbeDto {
  @ApiProperty({
    example: 'ready',
    description: 'alive, started, ready; else why not: starting, draining, failed, unhealthy.',
  })
  status!: string;
}

export class RootDto {
  @ApiProperty({ example: 'Nexus' }) name!: string;
  @ApiProperty({ example: '/health' }) health!: string;
  @ApiProperty({ example: '/api' }) api!: string;
  @ApiPropertyOptional({ example: '/docs' }) docs?: string;
}
