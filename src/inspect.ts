import { inspect } from 'node:util';

/** What `console.log` shows of an object: this text, and not its insides, which hold credentials. */
export function showAs(object: object, text: () => string): void {
  Object.defineProperty(object, inspect.custom, { value: text, enumerable: false });
}
