import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';

/** Something in a request that was accepted but is probably a mistake. */
export class WarningDto {
  @ApiProperty({ example: 'data.metric' }) field!: string;
  @ApiProperty({ example: 'is no field of a metric; did you mean metric_name?' }) message!: string;
  @ApiPropertyOptional({ example: 3, description: 'Position in a batch, from 0.' }) index?: number;
}
