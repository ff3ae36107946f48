import { Module } from '@nestjs/common';
import { expect, it } from 'vitest';
import { Feature } from './feature.js';

const words = new Feature<string>();
const numbers = new Feature<number>();

@Module({ imports: [words.declare('inner'), numbers.declare(1)] })
class Inner {}

@Module({ imports: [words.declare('outer'), Inner, { module: Inner, imports: [words.declare('added')] }] })
class Outer {}

it('Features are found in modules and in what they import, each once and by its kind', () => {
  expect(words.declaredBy([Outer, Inner])).toEqual(['outer', 'inner', 'added']);
  expect(numbers.declaredBy([Outer])).toEqual([1]);
  expect(numbers.declaredBy([{ module: Outer }])).toEqual([1]);
  expect(words.declaredBy([])).toEqual([]);
});
