import { invalid } from '../../validate.ts';

const BRACES = /[{}%]/g;

/** @throws {ConfigError} on a prefix that is no string, or would spoil the hash tag. */
export function validPrefix(prefix: unknown): string {
  if (typeof prefix !== 'string' || /[{}]/.test(prefix)) throw invalid('prefix', 'a string without { and }', prefix);
  return prefix;
}

/**
 * The keys of a target, in the order of the script's. All have its name as their hash tag, so a Cluster has them in one
 * place; what would end the tag early, or make it an empty one, is written otherwise.
 */
export function keysOf(prefix: string, target: string): string[] {
  const tag = target === '' ? '%' : target.replace(BRACES, (brace) => `%${brace.charCodeAt(0).toString(16)}`);
  return ['gate', 'egresses', 'permits', 'until', 'out'].map((name) => `${prefix}{${tag}}:${name}`);
}
