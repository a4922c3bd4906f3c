import { ConfigError } from './errors.ts';

/** One message shape for every bad option: its name, what was expected, what came. */
export function invalid(option: string, expected: string, value: unknown): ConfigError {
  return new ConfigError(`${option}: expected ${expected}, got ${show(value)}`, { option });
}

/** A value as it appears in a message; never more than a short line, and nothing that may be the credentials of a URL. */
function show(value: unknown): string {
  if (typeof value === 'string') {
    const at = value.lastIndexOf('@');
    const text = at < 0 ? value : `***${value.slice(at)}`;
    return text.length > 60 ? `'${text.slice(0, 57)}...'` : `'${text}'`;
  }
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** A finite number > 0. */
export function positive(option: string, value: unknown, unit = 'a number'): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw invalid(option, `${unit} > 0`, value);
  }
  return value;
}

/** A finite number ≥ 0. */
export function nonNegative(option: string, value: unknown, unit = 'a number'): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
    throw invalid(option, `${unit} ≥ 0`, value);
  }
  return value;
}

/** An integer ≥ 1. */
export function count(option: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
    throw invalid(option, 'an integer ≥ 1', value);
  }
  return value;
}

/** A number in [low, high]. */
export function within(option: string, value: unknown, low: number, high: number): number {
  if (typeof value !== 'number' || !(value >= low && value <= high)) {
    throw invalid(option, `a number from ${low} to ${high}`, value);
  }
  return value;
}

/** An object with no other keys than these: a misspelt option is an error, not a surprise. */
export function knownOnly(option: string, value: unknown, known: readonly string[]): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(option, 'an object', value);
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const at = option === 'options' ? unknown : `${option}.${unknown}`;
  throw invalid(at, `one of ${known.join(', ')}`, 'an unknown option');
}

export function hasMethods(option: string, value: unknown, methods: readonly string[]): void {
  if (value === undefined) return;
  const complete = methods.every((name) => typeof (value as Record<string, unknown> | null)?.[name] === 'function');
  if (!complete) throw invalid(option, `an object with ${methods.join(', ')}`, value);
}

/** A function, or nothing. */
export function isFunction(option: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw invalid(option, 'a function', value);
}
