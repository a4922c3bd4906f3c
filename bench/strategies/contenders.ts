import type { SimulatedWorld } from '../../src/testing/simulation/world.ts';
import { paceline } from './paceline.ts';
import {
  articleManager,
  crawleeSessions,
  domainBucket,
  fixedInterval,
  naiveRotation,
  politeRotation,
} from './peers.ts';
import type { Strategy } from './world.ts';

/** All strategies, in the order of the table. */
export const contenders = {
  'naive rotation': naiveRotation,
  'fixed-interval retry': fixedInterval,
  'rotation + Retry-After': politeRotation,
  'domain token bucket': domainBucket,
  'Crawlee session rules': crawleeSessions,
  "the article's manager": articleManager,
  paceline,
} satisfies Record<string, (world: SimulatedWorld) => Strategy>;

export type Contender = keyof typeof contenders;
