import { ApiProperty } from '@nestjs/swagger';
import type { TaskStatus } from '../../platform/background/index.js';

const STATUSES: TaskStatus[] = ['queued', 'running', 'completed', 'failed', 'cancelled'];

class ReencryptionErrorDto {
  @ApiProperty({ example: 'RESOURCE_CONFLICT' }) code!: string;
  @ApiProperty({ example: 'This worker encrypts with "k1": give every process "k2" first' }) message!: string;
}

export class ReencryptionDto {
  @ApiProperty({ example: 'rekey_550e8400-e29b-41d4-a716-446655440000' }) reencryption_id!: string;
  @ApiProperty({ enum: STATUSES, example: 'completed' }) status!: TaskStatus;
  @ApiProperty({ example: 100, description: '0 to 100.' }) progress!: number;
  @ApiProperty({ type: String, nullable: true, example: 'forget' }) current_step!: string | null;
  @ApiProperty({ example: 'k2', description: 'Id of the master key that all secrets are encrypted with.' })
  key_id!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 120, description: 'Rows that were encrypted again.' })
  reencrypted!: number;
  @ApiProperty({
    type: [String],
    nullable: true,
    example: ['k1'],
    description: 'Ids of keys that nothing is encrypted with any more; null until the end.',
  })
  forgotten_keys!: string[] | null;
  @ApiProperty({
    type: [String],
    nullable: true,
    example: ['k2'],
    description: 'Ids of the keys that every process still needs; null until the end.',
  })
  keys_in_use!: string[] | null;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) created_by!: string;
  @ApiProperty({ example: '2025-01-16T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-16T10:30:00.100Z' }) started_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-16T10:30:02.000Z' }) completed_at!: string | null;
  @ApiProperty({ type: ReencryptionErrorDto, nullable: true, example: null }) error!: ReencryptionErrorDto | null;
}
