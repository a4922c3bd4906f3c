export type { Clock, Random, TimerHandle } from './clock.ts';
export { seededRandom, systemClock } from './clock.ts';
export * from './errors.ts';
