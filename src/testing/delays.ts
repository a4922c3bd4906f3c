import type { EventEmitter } from 'node:events';
import type { Clock, Random } from '../clock.ts';
import { invalid, nonNegative } from '../validate.ts';

/** A delay in milliseconds: always the same, or drawn evenly from [min, max] each time. */
export type Delay = number | readonly [min: number, max: number];

/** Checks a {@link Delay} and gives the function that draws from it. */
export function delayOf(option: string, value: Delay, random: Random): () => number {
  if (typeof value === 'number') {
    nonNegative(option, value, 'milliseconds');
    return () => value;
  }
  if (!Array.isArray(value) || value.length !== 2) throw invalid(option, 'milliseconds or [min, max]', value);
  const [min, max] = value as readonly [number, number];
  nonNegative(`${option}[0]`, min, 'milliseconds');
  nonNegative(`${option}[1]`, max, 'milliseconds');
  if (max < min) throw invalid(`${option}[1]`, `a number ≥ ${min}`, max);
  return () => min + random() * (max - min);
}

/** Waits `ms`, unless `owner` closes first; false when it did. A socket that is gone leaves no timer behind. */
export function pause(
  clock: Clock,
  ms: number,
  owner: EventEmitter & { readonly destroyed: boolean },
): Promise<boolean> {
  if (owner.destroyed) return Promise.resolve(false);
  if (ms <= 0) return Promise.resolve(true);
  return new Promise((resolve) => {
    const onClose = (): void => {
      clock.clearTimeout(timer);
      resolve(false);
    };
    const timer = clock.setTimeout(() => {
      owner.off('close', onClose);
      resolve(!owner.destroyed);
    }, ms);
    owner.once('close', onClose);
  });
}
