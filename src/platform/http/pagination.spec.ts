import { describe, expect, it } from 'vitest';
import { type PageQueryDto, resolvePage } from './pagination.js';

const SIZES = { default: 20, max: 100 };

describe('resolvePage', () => {
  it('takes both styles when all four parameters name the same page', () => {
    expect(resolvePage({ limit: 20, offset: 0, page: 1, per_page: 20, cursor: '' }, SIZES)).toEqual({
      limit: 20,
      offset: 0,
    });
    expect(resolvePage({ limit: 10, offset: 20, page: 3, per_page: 10 }, SIZES)).toEqual({ limit: 10, offset: 20 });
  });

  it.each<PageQueryDto>([
    { page: 1, limit: 20 },
    { page: 1, offset: 0 },
    { page: 1, per_page: 20, limit: 20 },
    { limit: 20, offset: 20, page: 1, per_page: 20 },
    { limit: 20, offset: 0, page: 1, per_page: 10 },
    { limit: 20, offset: 0, page: 1, per_page: 20, cursor: 'WzFd' },
    { offset: 0, cursor: 'WzFd' },
  ])('refuses %o', (query) => {
    expect(() => resolvePage(query, SIZES)).toThrow('Invalid request parameters');
  });

  it('starts with the first page when the cursor is empty', () => {
    expect(resolvePage({ cursor: '', limit: 5 }, SIZES)).toEqual({ limit: 5, offset: 0 });
  });
});
