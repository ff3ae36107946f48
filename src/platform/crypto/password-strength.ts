export interface PasswordContext {
  username?: string;
  email?: string;
  /** Shortest length allowed, in characters; 8 only where a second factor is required. */
  minLength?: number;
}

const MAX_LENGTH = 128;

/** Words and walks that open leaked lists; a password made of little else is guessed first. Longer ones come first. */
const COMMON = [
  'correcthorsebatterystaple',
  'trustno1',
  'password',
  'passwort',
  'passw0rd',
  'p@ssw0rd',
  'p@ssword',
  'sunshine',
  'princess',
  'football',
  'baseball',
  'superman',
  'starwars',
  'whatever',
  'computer',
  'internet',
  'jennifer',
  'michelle',
  'changeme',
  'iloveyou',
  'letmein',
  'welcome',
  'charlie',
  'michael',
  'default',
  'monkey',
  'dragon',
  'master',
  'shadow',
  'batman',
  'soccer',
  'hockey',
  'killer',
  'george',
  'jordan',
  'secret',
  'summer',
  'winter',
  'access',
  'flower',
  'hello',
  'login',
  'admin',
  'nexus',
  'super',
  'guest',
  'root',
  'test',
  'user',
  'pass',
  'love',
  'abc',
  '123',
].sort((a, b) => b.length - a.length);

const FORWARD = [
  'abcdefghijklmnopqrstuvwxyz',
  '01234567890',
  'qwertyuiop',
  'asdfghjkl',
  'zxcvbnm',
  'qazwsxedcrfvtgbyhnujmikolp',
  '1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p',
];
const WALKS = [...FORWARD, ...FORWARD.map((walk) => [...walk].reverse().join(''))];

/**
 * Judges a new password by length, by what is commonly guessed and by what is known of its owner. No composition rules.
 * @returns the reason for refusing it, fit to be shown, or null
 */
export function checkPasswordStrength(password: string, context: PasswordContext): string | null {
  const min = context.minLength ?? 15;
  const text = password.normalize('NFKC');
  const length = [...text].length;
  if (length < min) return `must have at least ${min} characters`;
  if (length > MAX_LENGTH) return `must have at most ${MAX_LENGTH} characters`;

  const folded = text.toLowerCase();
  const names = [context.username, context.email, context.email?.split('@')[0]];
  for (const name of names) {
    const own = name?.normalize('NFKC').toLowerCase();
    if (own && own.length >= 3 && folded.includes(own)) return 'must not contain the user name or e-mail address';
  }
  if (new Set(folded).size < 5) return 'uses too few different characters';
  if ((folded + folded).indexOf(folded, 1) < folded.length) return 'repeats one short piece';
  if (leftover(folded) < 5) return 'is too easy to guess';
  return null;
}

/** How many characters remain when common words, keyboard walks, years and runs of one character are taken away. */
function leftover(folded: string): number {
  let rest = folded;
  for (const word of COMMON) rest = rest.replaceAll(word, ' ');
  rest = rest.replace(/(?:19|20)\d\d|(.)\1{2,}/gu, ' ');
  for (let at = 0; at < rest.length; at++) {
    let end = at + 4;
    if (!isWalk(rest.slice(at, end), 4)) continue;
    while (end < rest.length && isWalk(rest.slice(at, end + 1), 4)) end++;
    rest = `${rest.slice(0, at)} ${rest.slice(end)}`;
  }
  return [...rest.replaceAll(' ', '')].length;
}

function isWalk(piece: string, atLeast: number): boolean {
  return piece.length >= atLeast && WALKS.some((walk) => walk.includes(piece));
}
