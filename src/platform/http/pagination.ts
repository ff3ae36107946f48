import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsString, Max, MaxLength, Min } from 'class-validator';
import { AppError } from '../errors/index.js';
import { isUuid } from '../ids/index.js';

const MAX_OFFSET = 10_000_000;
const ISO_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

/**
 * The three ways to page through a list. A resource extends it with its filters. Mixing the ways is refused, except that `limit`,
 * `offset`, `page` and `per_page` may be combined when they name the same page: forms filled in with the examples of the API
 * document do that.
 */
export class PageQueryDto {
  @ApiPropertyOptional({ example: 20, type: 'integer', minimum: 1, description: 'Most items to return.' })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  limit?: number;

  @ApiPropertyOptional({
    example: 0,
    type: 'integer',
    minimum: 0,
    maximum: MAX_OFFSET,
    description: 'Items to skip; goes with `limit`.',
  })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(0)
  @Max(MAX_OFFSET)
  offset?: number;

  @ApiPropertyOptional({
    example: 1,
    type: 'integer',
    minimum: 1,
    description: 'Page number from 1; goes with `per_page`.',
  })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(MAX_OFFSET)
  page?: number;

  @ApiPropertyOptional({ example: 20, type: 'integer', minimum: 1, description: 'Items per page.' })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  per_page?: number;

  @ApiPropertyOptional({
    example: '',
    description: '`next_cursor` of the answer before; goes with `limit`. Empty: the first page.',
  })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  cursor?: string;
}

/** The position of a page, in each of the ways to page. */
export class PaginationDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 150,
    description: 'Matching items; a lower bound when `total_is_exact` is false.',
  })
  total!: number;
  @ApiProperty({ example: true }) total_is_exact!: boolean;
  @ApiProperty({ type: 'integer', minimum: 1, example: 50 }) limit!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) offset!: number;
  @ApiProperty({ example: true }) has_more!: boolean;
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 }) page!: number;
  @ApiProperty({ type: 'integer', minimum: 1, example: 50 }) per_page!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 3 }) pages!: number;
  @ApiProperty({ example: true }) has_next!: boolean;
  @ApiProperty({ example: false }) has_prev!: boolean;
  @ApiProperty({ type: String, nullable: true, example: null }) next_cursor!: string | null;
}

export interface Page {
  limit: number;
  offset: number;
  /** With a cursor: the sort keys of the last item of the previous page. */
  after?: unknown[];
}

/** @throws AppError `validation` when ways to page are mixed, the size is over `max`, or the cursor is not valid */
export function resolvePage(query: PageQueryDto, sizes: { default: number; max: number }): Page {
  const byPage = query.page !== undefined || query.per_page !== undefined;
  const byOffset = query.limit !== undefined || query.offset !== undefined;
  const cursor = query.cursor === '' ? undefined : query.cursor;
  if (byPage && ((byOffset && !namesOnePage(query)) || cursor !== undefined)) {
    throw queryIssue('page', 'cannot be combined with limit, offset or cursor', 'page and per_page alone');
  }
  if (cursor !== undefined && query.offset !== undefined) {
    throw queryIssue('cursor', 'cannot be combined with offset', 'cursor and limit alone');
  }
  const sizeField = byPage ? 'per_page' : 'limit';
  const limit = query[sizeField] ?? Math.min(sizes.default, sizes.max);
  if (limit > sizes.max) throw queryIssue(sizeField, `must not be greater than ${sizes.max}`);
  if (byPage) return { limit, offset: ((query.page ?? 1) - 1) * limit };
  if (cursor === undefined) return { limit, offset: query.offset ?? 0 };
  return { limit, offset: 0, after: decodeCursor(cursor) };
}

function namesOnePage({ limit, offset, page, per_page }: PageQueryDto): boolean {
  return limit !== undefined && page !== undefined && limit === per_page && offset === (page - 1) * limit;
}

/**
 * The time and id (a UUID, or what `isId` accepts) after which the next page of a list starts; nulls for the first page.
 * @throws AppError `validation` when the cursor is of another list
 */
export function timeAndIdAfter(
  { after }: Page,
  isId: (id: string) => boolean = isUuid,
): [at: string, id: string] | [at: null, id: null] {
  if (!after) return [null, null];
  const [at, id] = after;
  if (after.length === 2 && typeof at === 'string' && ISO_TIME.test(at) && typeof id === 'string' && isId(id)) {
    return [at, id];
  }
  throw notACursor();
}

/**
 * The name after which the next page of a list starts; null for the first page.
 * @throws AppError `validation` when the cursor is of another list
 */
export function nameAfter({ after }: Page): string | null {
  if (!after) return null;
  const [name] = after;
  if (after.length === 1 && typeof name === 'string' && !name.includes('\0')) return name;
  throw notACursor();
}

/** Makes a page from the rows of a query, which asks for one row more than the page takes to see whether there is a next page. */
export function pageOf<Row>(
  page: Page,
  found: readonly Row[],
  total: number,
  keysOf: (last: Row) => unknown[],
  countedTo = Infinity,
): { rows: Row[]; pagination: PaginationDto } {
  const rows = found.slice(0, page.limit);
  const hasMore = found.length > page.limit;
  return {
    rows,
    pagination: paginationOf(page, {
      total: Math.min(total, countedTo),
      exact: total <= countedTo,
      hasMore,
      nextKeys: hasMore ? keysOf(rows[rows.length - 1]) : [],
    }),
  };
}

/** Makes a page of a list that is in memory and sorted by `keyOf`. */
export function pageOfSorted<Row>(
  page: Page,
  all: readonly Row[],
  keyOf: (row: Row) => string,
): { rows: Row[]; pagination: PaginationDto } {
  const after = nameAfter(page);
  const rest = after === null ? all.slice(page.offset) : all.filter((row) => keyOf(row) > after);
  return pageOf(page, rest, all.length, (last) => [keyOf(last)]);
}

function encodeCursor(keys: unknown[]): string {
  return Buffer.from(JSON.stringify(keys)).toString('base64url');
}

function decodeCursor(cursor: string): unknown[] {
  try {
    const keys: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (Array.isArray(keys)) return keys as unknown[];
  } catch {
    // Refused below.
  }
  throw notACursor();
}

/** @param nextKeys the sort keys of the last item of this page, when there is a next page */
export function paginationOf(
  page: Page,
  result: { total: number; exact?: boolean; hasMore: boolean; nextKeys?: unknown[] },
): PaginationDto {
  const { limit, offset } = page;
  return {
    total: result.total,
    total_is_exact: result.exact ?? true,
    limit,
    offset,
    has_more: result.hasMore,
    page: Math.floor(offset / limit) + 1,
    per_page: limit,
    pages: Math.ceil(result.total / limit),
    has_next: result.hasMore,
    has_prev: offset > 0 || page.after !== undefined,
    next_cursor: result.hasMore && result.nextKeys ? encodeCursor(result.nextKeys) : null,
  };
}

/** The error for a cursor that this list did not return. */
export function notACursor(): AppError {
  return queryIssue('cursor', 'is not a cursor of this list', 'next_cursor of an answer of this list');
}

function queryIssue(field: string, issue: string, expected?: string): AppError {
  return AppError.validation({ field, issue, expected, location: 'query' });
}
