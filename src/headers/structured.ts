import {
  type BareItem,
  type Dictionary,
  type List,
  type Parameters,
  parseDictionary,
  parseList,
  Token,
} from 'structured-headers';

/** A list of structured fields (RFC 9651, 3.1); undefined when it is malformed: the whole field is to be ignored then (4.2). */
export function structuredList(text: string): List | undefined {
  try {
    return parseList(text);
  } catch {
    return undefined;
  }
}

/** A dictionary of structured fields (RFC 9651, 3.2); undefined when it is malformed. */
export function structuredDictionary(text: string): Dictionary | undefined {
  try {
    return parseDictionary(text);
  } catch {
    return undefined;
  }
}

/** A token or a string as its text: who writes fields by hand mixes them up. */
export function textOf(item: BareItem | undefined): string | undefined {
  if (typeof item === 'string') return item;
  return item instanceof Token ? item.toString() : undefined;
}

/** The parameter as a number ≥ 0; undefined for anything else. */
export function numberIn(parameters: Parameters, key: string): number | undefined {
  const value = parameters.get(key);
  return typeof value === 'number' && value >= 0 ? value : undefined;
}
