import { ApiHideProperty } from '@nestjs/swagger';
import { IsOptional, IsString, MaxLength } from 'class-validator';

/** Query of a route with `@TakesTicket`; the document shows the ticket among the ways to authenticate. */
export class TicketQueryDto {
  @ApiHideProperty()
  @IsOptional()
  @IsString()
  @MaxLength(200)
  ticket?: string;
}
