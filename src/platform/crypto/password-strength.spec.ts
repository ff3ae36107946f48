import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { checkPasswordStrength } from './password-strength.js';

describe('checkPasswordStrength', () => {
  it('accepts long phrases and generated passwords in any script', () => {
    const good = [
      'winding copper lanterns hum',
      'žluťoučký kůň úpěl',
      '夜の森を歩く猫は静かに鳴いていた月明',
      '8$2!93#7@1*5^0&',
      'vT9-qLw2_xKp7RzN',
    ];
    for (const password of good) expect([password, checkPasswordStrength(password, {})]).toEqual([password, null]);
    for (let i = 0; i < 200; i++) {
      const password = randomBytes(12).toString('base64url');
      expect([password, checkPasswordStrength(password, { username: 'admin', email: 'root@example.com' })]).toEqual([
        password,
        null,
      ]);
    }
  });

  it('counts characters after normalisation, from 15 to 128', () => {
    expect(checkPasswordStrength('short but odd', {})).toMatch(/at least 15/);
    expect(checkPasswordStrength('e\u0301'.repeat(14), {})).toMatch(/at least 15/);
    expect(checkPasswordStrength('x9 Tq!z', { minLength: 8 })).toMatch(/at least 8/);
    expect(checkPasswordStrength('x9 Tq!zu', { minLength: 8 })).toBeNull();
    expect(checkPasswordStrength('winding copper '.repeat(9), {})).toMatch(/at most 128/);
  });

  it('refuses what is guessed first', () => {
    const bad = [
      'passwordpassword',
      'password1234567',
      'Password2024!!!!',
      'P@ssw0rd12345678',
      'qwertyuiopasdfgh',
      'aaaaaaaaaaaaaaaa',
      'abababababababab',
      '123456789012345',
      'abcdefghijklmnopq',
      'adminadminadmin1',
      'Welcome2Nexus!!!',
      'correcthorsebatterystaple',
      'letmein-letmein-letmein',
      '098765432109876',
      '1qaz2wsx3edc4rfv',
    ];
    for (const password of bad) expect([password, checkPasswordStrength(password, {})]).not.toEqual([password, null]);
  });

  it('refuses the name or address of its owner, in any case', () => {
    const owner = { username: 'Marianne', email: 'm.lindqvist@example.org' };
    expect(checkPasswordStrength('copper lantern mariANNE', owner)).toMatch(/user name/);
    expect(checkPasswordStrength('copper M.Lindqvist hum', owner)).toMatch(/user name/);
    expect(checkPasswordStrength('winding copper lanterns', { username: 'io' })).toBeNull();
  });
});
