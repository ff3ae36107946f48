import { ApiHideProperty } from '@nestjs/swagger';
import { IsOptional, IsString, MaxLength } from 'class-validator';

/** The query of a route with `@TakesTicket`. The API document lists the ticket among the ways to authenticate. */
export class TicketQueryDto {
  @ApiHideProperty()
  @IsOptional()
  @IsString()
  @MaxLength(200)
  ticket?: string;
}
