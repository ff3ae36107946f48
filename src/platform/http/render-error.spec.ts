import { QueryFailedError } from 'typeorm';
import { expect, it } from 'vitest';
import { renderError } from './render-error.js';

const failed = (code: string): QueryFailedError =>
  new QueryFailedError('INSERT', [], Object.assign(new Error('refused'), { code }));

it.each([
  ['25006', 503],
  ['53200', 503],
  ['58030', 503],
  ['53100', 507],
])('answers SQLSTATE %s with %d and a time to try again', (code, status) => {
  for (const error of [failed(code), failed(code).driverError]) {
    const rendered = renderError(error);
    expect(rendered).toMatchObject({ status, unexpected: false });
    expect(Number(rendered.headers['Retry-After'])).toBeGreaterThan(0);
  }
});

it.each(['23503', '23505'])('answers SQLSTATE %s with 409', (code) => {
  expect(renderError(failed(code))).toMatchObject({ status: 409, unexpected: false });
});
