import type { ObjectLiteral, SelectQueryBuilder } from 'typeorm';
import { nameAfter, type Page, pageOf, type PaginationDto, timeAndIdAfter } from './pagination.js';

export interface PageOfRows<E> {
  rows: E[];
  pagination: PaginationDto;
}

/**
 * One page of a list, the newest first, with its position in the list.
 * @param time property with the time to sort by, in milliseconds, since a cursor holds no more. Equal times are sorted by `id`.
 * @param countedTo the total is exact up to this and a lower bound beyond it, so that the cost does not grow with the list
 */
export async function pageNewestFirst<E extends ObjectLiteral & { id: string }>(
  list: SelectQueryBuilder<E>,
  page: Page,
  time: keyof E & string = 'createdAt',
  countedTo?: number,
): Promise<PageOfRows<E>> {
  const total = await (countedTo === undefined ? list.clone().getCount() : countUpTo(list, countedTo + 1));
  const [at, id] = timeAndIdAfter(page);
  if (at !== null) {
    list.andWhere(`(${list.alias}.${time}, ${list.alias}.id) < (:at, :id)`, { at, id });
  }
  list.orderBy(`${list.alias}.${time}`, 'DESC').addOrderBy(`${list.alias}.id`, 'DESC');
  const found = await list
    .limit(page.limit + 1)
    .offset(page.offset)
    .getMany();
  return pageOf(page, found, total, (last) => [last[time], last.id], countedTo);
}

/** The number of matching rows, counted up to `max`. */
export async function countUpTo<E extends ObjectLiteral>(list: SelectQueryBuilder<E>, max: number): Promise<number> {
  const matching = list.clone().select('1').limit(max);
  const counted = await list
    .createQueryBuilder()
    .select('count(*)::int', 'total')
    .from(`(${matching.getQuery()})`, 'matching')
    .setParameters(matching.getParameters())
    .getRawOne<{ total: number }>();
  return counted!.total;
}

/** One page of a list sorted by a unique name, with its position in the list. */
export async function pageByName<E extends ObjectLiteral>(
  list: SelectQueryBuilder<E>,
  page: Page,
  name: keyof E & string,
): Promise<PageOfRows<E>> {
  const total = await list.clone().getCount();
  const after = nameAfter(page);
  if (after !== null) list.andWhere(`${list.alias}.${name} > :after`, { after });
  const found = await list
    .orderBy(`${list.alias}.${name}`)
    .limit(page.limit + 1)
    .offset(page.offset)
    .getMany();
  return pageOf(page, found, total, (last) => [last[name]]);
}
