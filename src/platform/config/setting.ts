import { applyDecorators } from '@nestjs/common';
import { Transform, type TransformFnParams } from 'class-transformer';
import { IsBoolean, IsInt, IsOptional, Matches, Max, Min } from 'class-validator';

/** What is known about one setting besides its rules. */
export interface SettingInfo {
  property: string;
  /** Name of the environment variable. */
  env: string;
  /** For the README and `.env.example`. */
  about: string;
  /** Set where the setting is a rate limit. */
  rateLimit?: RateLimitInfo;
}

export interface RateLimitInfo {
  category: string;
  /** Whether requests of this category are left out of the limit of everything together. */
  alone: boolean;
}

/** A class of settings: fields with `@Setting`, whose initial values are the defaults. */
export interface SettingsClass<T extends object = object> {
  new (): T;
  /** Heading of these settings in `.env.example`. */
  readonly title: string;
}

const declared = new WeakMap<object, SettingInfo[]>();

/** The settings of a class, in the order of its fields. */
export function settingsOf(type: SettingsClass): readonly SettingInfo[] {
  return declared.get(type.prototype as object) ?? [];
}

/** A field that is filled from an environment variable and validated by the decorators given with it. */
export function Setting(env: string, about: string, ...rules: PropertyDecorator[]): PropertyDecorator {
  return declare({ env, about }, rules);
}

/**
 * A field that is the rate limit of a category, such as `1000/60` (requests/seconds), `1000/60+100` (with a burst) or `off`.
 * Its environment variable is `NEXUS_RATE_LIMIT_` and the category.
 */
export function RateLimitSetting(category: string, about: string, { alone = false } = {}): PropertyDecorator {
  const env = `NEXUS_RATE_LIMIT_${category.toUpperCase()}`;
  return declare({ env, about: `${about}: requests/seconds, or \`off\``, rateLimit: { category, alone } }, [
    Matches(/^(off|[1-9]\d{0,8}\/[1-9]\d{0,5}(\+\d{1,9})?)$/, {
      message: 'must be requests/seconds or requests/seconds+burst, e.g. 1000/60 or 1000/60+100, or off',
    }),
  ]);
}

function declare(info: Omit<SettingInfo, 'property'>, rules: PropertyDecorator[]): PropertyDecorator {
  return (target, property) => {
    const settings = declared.get(target) ?? [];
    settings.push({ ...info, property: String(property) });
    declared.set(target, settings);
    applyDecorators(...rules)(target, property);
  };
}

const raw = ({ value }: TransformFnParams): unknown => value as unknown;

/** A whole number within bounds. */
export function int(min: number, max: number): PropertyDecorator {
  const read = (p: TransformFnParams): unknown => {
    const value = raw(p);
    return typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : value;
  };
  return applyDecorators(Transform(read), IsInt(), Min(min), Max(max));
}

/** `true`, `1`, `on` or `yes`, or their opposites. */
export function flag(): PropertyDecorator {
  const read = (p: TransformFnParams): unknown => {
    const value = raw(p);
    if (typeof value !== 'string') return value;
    if (['true', '1', 'on', 'yes'].includes(value.toLowerCase())) return true;
    return ['false', '0', 'off', 'no'].includes(value.toLowerCase()) ? false : value;
  };
  return applyDecorators(Transform(read), IsBoolean());
}

/** Comma-separated items; the rule is of each. */
export function list(each: PropertyDecorator): PropertyDecorator {
  const read = (p: TransformFnParams): unknown => {
    const value = raw(p);
    if (typeof value !== 'string') return value;
    const items = value.split(',').map((item) => item.trim());
    return items.filter(Boolean);
  };
  return applyDecorators(Transform(read), each);
}

/** The text matches; nothing is also fine. */
export function optionalMatch(pattern: RegExp, message: string): PropertyDecorator {
  return applyDecorators(IsOptional(), Matches(pattern, { message }));
}

/** Days that something is kept. */
export const days = (max = 3650): PropertyDecorator => int(1, max);
