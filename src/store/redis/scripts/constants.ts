/** The head of an egress's record, and what comes of each route. */
const HEAD = '<BIIIIIdd';
const ROUTE = 'BIdHc0Hc0Hc0';

/**
 * What stands in the script by name, and is put in by value: a name costs Lua an instruction where a value costs none, and each
 * function may only have so many from outside.
 *
 * **The record of an egress**: kind (1 when one route and nothing else comes next), busy, weight (IPs it stands for; 0: no budget
 * of its own), number of stamps, outcomes, ejection (u32 each), spaced, cooldown (f64 each). Then, but for kind 1: probe, quota
 * spacing, quota until, number of routes. Then of each route: flags, weight, end, pool, id, session. At last the stamps since when
 * slots cool, rising (f64 each). What is between head and stamps mostly stays as it is, and is not packed anew.
 *
 * **The record of a permit**: flags, cost, ticket (of the circuit); egress; id of the route ('' for none); units (of the rates), start,
 * deadline, spacing; pool; what the spacing was before, and of each rate the arrival time right after it was spent (the marks).
 * Once its slots cool nothing of that matters any more: then it is the time when it ends by itself, in eight bytes.
 */
const CONSTANTS: Readonly<Record<string, string | number>> = {
  /** Before all times; arithmetic with it stays finite. */
  NEVER: -1e15,
  /** Egresses that are looked at in one step at most. */
  MANY: 512,
  /** Arguments of one call: Lua's stack has room for 8000. */
  CHUNK: 1000,
  /** Of an egress's record: where what is between head and stamps begins. */
  MIDDLE: 38,
  ROUTE: quoted(`<${ROUTE}`),
  HEAD: quoted(HEAD),
  /** A record of kind 1, without its stamps; and up to its pool. */
  SIMPLE: quoted(HEAD + ROUTE),
  TO_POOL: quoted(`${HEAD}BIdHc0`),
  EXTRAS: quoted('<Hc0ddI'),
  ENCODED: quoted(`${HEAD}c0`),
  /** Flags of a route; the last: its names are JSON as they are. */
  TRIAL: 1,
  WITH_SESSION: 2,
  PLAIN: 4,
  /** A word of ejection from there on is that of an egress that is out. */
  OUTSIDE: 2 ** 29,
  /** Flags of a permit: its route has a session; stands for one IP; it holds slots of the account; `until` has it by its call and not by its id. */
  SESSION: 2,
  SINGLE: 4,
  ACCOUNT: 8,
  BY_CALL: 16,
  /** Of a permit's record: the first part, which is all that a settle reads; from units to pool; all in front of the marks. */
  HOLD: quoted('<BIi'),
  HOLDS: quoted('<BIiHc0'),
  TERMS: quoted('<IdddHc0'),
  PERMIT: quoted('<BIiHc0Hc0IdddHc0d'),
  /** The same of parts that are packed already: hold, egress, id, terms, before. */
  PARTS: quoted('<c0Hc0Hc0c0d'),
};

function quoted(text: string): string {
  return `'${text}'`;
}

/** The script with the constants put in. */
export function withConstants(script: string): string {
  return script.replace(new RegExp(`\\b(?:${Object.keys(CONSTANTS).join('|')})\\b`, 'g'), (name) =>
    String(CONSTANTS[name]),
  );
}

/** How many texts of a list are written down in the script: most calls for permits are for no more. */
const LISTED = 256;

/** A Lua table of texts. */
export function listed(text: (index: number) => string): string {
  return `{ ${Array.from({ length: LISTED }, (_, i) => text(i)).join(',')} }`;
}
