import assert from 'node:assert/strict';

/** Two numbers this close are the same: a store may work in another arithmetic. */
const HAIR = 1e-6;

/** Expects the same value; of an object, only the fields that are named. Numbers may differ by a hair. */
export function like(actual: unknown, expected: unknown, what?: string): void {
  try {
    assert.deepStrictEqual(shaped(actual, expected), expected);
  } catch (error) {
    if (what !== undefined) (error as Error).message = `${what}: ${(error as Error).message}`;
    throw error;
  }
}

/** What there is, cut to what is asked for, so that the difference shown is the one that matters. */
function shaped(actual: unknown, expected: unknown): unknown {
  if (typeof actual === 'number' && typeof expected === 'number') {
    return Math.abs(actual - expected) <= HAIR * Math.max(1, Math.abs(expected)) ? expected : actual;
  }
  if (Array.isArray(actual) && Array.isArray(expected)) {
    return actual.map((one: unknown, i) => (i < expected.length ? shaped(one, expected[i]) : one));
  }
  if (isRecord(actual) && isRecord(expected)) {
    return Object.fromEntries(Object.keys(expected).map((key) => [key, shaped(actual[key], expected[key])]));
  }
  return actual;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
