import { type Clock, systemClock } from '../clock.ts';
import type { Scope } from '../target/types.ts';
import { count, invalid, nonNegative, positive } from '../validate.ts';

/** When the cooldown of one egress is taken for the target's own. */
export interface WideningPolicy {
  /** So many egresses refused …; an integer ≥ 1. */
  readonly egresses: number;
  /** … within this time, in milliseconds. */
  readonly windowMs: number;
  /** `account`: who is refused is the account, so the first refusal is enough. */
  readonly scope: Scope;
}

/**
 * The egresses that were refused last: a slot for each, with when it was and until when it was told to wait. `K` is an
 * entry of a table or a key; a table may reuse an entry, which only makes two egresses count as one.
 */
export interface WideningState<K> {
  readonly keys: (K | undefined)[];
  readonly at: number[];
  readonly until: number[];
  /** Until when the whole target is left alone. */
  targetUntil: number;
}

/** No egress refused. The slots are `egresses` in number. */
export function wideningState<K>(egresses: number): WideningState<K> {
  return {
    keys: new Array<K | undefined>(egresses).fill(undefined),
    at: new Array<number>(egresses).fill(Number.NEGATIVE_INFINITY),
    until: new Array<number>(egresses).fill(Number.NEGATIVE_INFINITY),
    targetUntil: Number.NEGATIVE_INFINITY,
  };
}

/**
 * An egress was refused and told to wait until `until`. When it is one of `egresses` different ones within the window, the
 * limit is not theirs but the target's: all of it waits until the latest of what they were told. Returns whether the
 * target's wait has become longer. Pure but for `state`.
 */
export function noteLimited<K>(
  state: WideningState<K>,
  policy: WideningPolicy,
  key: K,
  until: number,
  now: number,
): boolean {
  let slot = state.keys.indexOf(key);
  if (slot < 0) {
    slot = state.at.indexOf(Math.min(...state.at)); // the one that has been silent for longest
    state.keys[slot] = key;
    state.until[slot] = Number.NEGATIVE_INFINITY;
  }
  state.at[slot] = now;
  state.until[slot] = Math.max(state.until[slot], until);

  const wide = policy.scope === 'account' || state.at.every((at) => at > now - policy.windowMs);
  const targetUntil = policy.scope === 'account' ? until : Math.max(...state.until);
  if (!wide || targetUntil <= Math.max(now, state.targetUntil)) return false;
  state.targetUntil = targetUntil;
  return true;
}

/** Options of {@link cooldowns}. */
export interface CooldownsOptions {
  /** The wait when the target names none, and the time in which refusals add up; milliseconds, > 0. @default 60_000 */
  readonly windowMs?: number;
  /** So many egresses refused within a window widen the wait to all of them; an integer ≥ 1. @default 3 */
  readonly egresses?: number;
  /** `account`: the first refusal is everybody's. @default 'ip' */
  readonly scope?: Scope;
  /** No refusal is believed to ask for more; milliseconds, > 0. @default 86_400_000, a day */
  readonly maxMs?: number;
  /** @default systemClock */
  readonly clock?: Clock;
}

/** See {@link cooldowns}. */
export interface Cooldowns {
  /** The target refused `egress` and asked for `forMs` of rest (≥ 0; default: one window). True when that widened to all. */
  limited(egress: string, forMs?: number): boolean;
  /** Milliseconds, rounded up to whole ones, until the target may be asked over `egress`, or without it over any; 0 = now. */
  waitMs(egress?: string): number;
}

/**
 * The timed pauses of one target. A refused egress rests for as long as the target asked. When three different egresses
 * are refused within a window it is not they that are limited but the target, and no other is burned to find out: the
 * pause becomes everybody's, until the latest of theirs. One may be bad luck and two a coincidence; with
 * `scope: 'account'` the first is enough.
 *
 * Egresses whose pause is over are forgotten as others come.
 *
 * @throws {ConfigError} on a bad option or `forMs`.
 * @example
 * const pauses = cooldowns();
 * if (response.status === 429) pauses.limited(egress, parseRetryAfter(response.headers.get('retry-after'), Date.now()));
 * pauses.waitMs(egress); // 30000
 */
export function cooldowns(options: CooldownsOptions = {}): Cooldowns {
  const { clock = systemClock, scope = 'ip' } = options;
  const windowMs = positive('windowMs', options.windowMs ?? 60_000, 'milliseconds');
  const egresses = count('egresses', options.egresses ?? 3);
  const maxMs = positive('maxMs', options.maxMs ?? 86_400_000, 'milliseconds');
  if (scope !== 'ip' && scope !== 'account') throw invalid('scope', "'ip' or 'account'", scope);
  const policy: WideningPolicy = { egresses, windowMs, scope };
  const state = wideningState<string>(egresses);
  const resting = new Map<string, number>(); // by the time they were last refused

  function forget(now: number): void {
    let looked = 0;
    for (const [egress, until] of resting) {
      if (looked++ === 2) return;
      if (until <= now) resting.delete(egress);
      else {
        resting.delete(egress);
        resting.set(egress, until);
      }
    }
  }

  return {
    limited(egress, forMs = windowMs) {
      const now = clock.now();
      const until = now + Math.min(maxMs, nonNegative('forMs', forMs, 'milliseconds'));
      forget(now);
      resting.set(egress, Math.max(until, resting.get(egress) ?? until));
      return noteLimited(state, policy, egress, until, now);
    },
    waitMs(egress) {
      const own = egress === undefined ? undefined : resting.get(egress);
      const until = Math.max(state.targetUntil, own ?? Number.NEGATIVE_INFINITY);
      return Math.max(0, Math.ceil(until - clock.now()));
    },
  };
}
