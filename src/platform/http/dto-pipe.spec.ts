import { ValidationPipe } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsString, Max, MaxLength, ValidateNested } from 'class-validator';
import { describe, expect, it, vi } from 'vitest';
import { AppError, type FieldIssue } from '../errors/index.js';
import { DtoPipe } from './dto-pipe.js';

class InnerDto {
  @ApiProperty()
  @IsInt()
  @Max(10)
  max_retries!: number;
}

class OuterDto {
  @ApiProperty()
  @IsString()
  @MaxLength(5)
  metric_name!: string;

  @ApiProperty()
  @IsOptional()
  @ValidateNested()
  @Type(() => InnerDto)
  retry_config?: InnerDto;
}

async function issuesOf(body: unknown): Promise<FieldIssue[]> {
  const refused: unknown = await new DtoPipe()
    .transform(body, { type: 'body', metatype: OuterDto })
    .catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(AppError);
  return (refused as AppError).details as FieldIssue[];
}

describe('a wrong body', () => {
  it('that lacks a field is told that it is required, and what it must be', async () => {
    expect(await issuesOf({})).toEqual([
      {
        field: 'metric_name',
        issue: 'is required',
        expected: 'shorter than or equal to 5 characters; a string',
        received: 'undefined',
        location: 'body',
      },
    ]);
  });

  it('is told the first rule that it breaks, and all that are expected', async () => {
    const [issue] = await issuesOf({ metric_name: 'cpu', retry_config: { max_retries: 'x' } });
    expect(issue).toMatchObject({ field: 'retry_config.max_retries', received: 'string' });
    expect(issue.issue).toMatch(/must/);
    expect(issue.expected).toBe('not greater than 10; an integer number');
  });

  it('with an unknown field is told the nearest that is known there', async () => {
    const [outer, inner] = await issuesOf({ metric_name: 'cpu', metric: 1, retry_config: { max_retires: 1 } });
    expect(outer).toMatchObject({ field: 'metric', issue: 'is not a known field; did you mean metric_name?' });
    expect(outer.expected).toBe('one of metric_name, retry_config');
    expect(inner).toMatchObject({
      field: 'retry_config.max_retires',
      issue: 'is not a known field; did you mean max_retries?',
    });
    expect((await issuesOf({ metric_name: 'cpu', colour: 1 }))[0].issue).toBe('is not a known field');
  });

  it('with thousands of unknown fields costs little and is told the first fifty', async () => {
    const validate = vi.spyOn(ValidationPipe.prototype, 'transform');
    const body = Object.fromEntries(Array.from({ length: 9990 }, (_, n) => [`metric_nome${'x'.repeat(60)}${n}`, 1]));
    const refused = (await new DtoPipe()
      .transform({ ...body, retry_config: body }, { type: 'body', metatype: OuterDto })
      .catch((error: unknown) => error)) as AppError;
    expect(refused.details).toHaveLength(50);
    expect(refused.message).toBe('Invalid request parameters; only the first 50 problems are listed');
    expect(JSON.stringify(refused.details).length).toBeLessThan(20_000);
    // Counted first: checking each of them costs far more.
    expect(validate).not.toHaveBeenCalled();
    validate.mockRestore();
  });

  it('that is no object is told so', async () => {
    expect(await issuesOf([])).toMatchObject([{ issue: 'must be a JSON object', received: 'array' }]);
  });
});
