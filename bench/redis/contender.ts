import type { RedisServer } from '../../test/support/redis-server.ts';

/** How many egresses, or keys, the requests are spread over: eight a second each, so that nobody is ever refused. */
export const EGRESSES = 20_000;
export const LIMIT = 8;
export const WINDOW_MS = 1_000;

/** One way to be admitted, on a connection of its own. */
export interface Contender {
  /** Asks for one admission; calls back when it is there. */
  admit(granted: () => void): void;
  /** Once all of a turn are admitted: resolves when what they left to be done is done, too. */
  done?(): Promise<void>;
  /** After that, beside the clock: leaves nothing behind for the next turn. */
  tidy?(): Promise<void>;
  /** Frees what disconnecting its client does not. */
  close?(): Promise<void>;
}

export type Connect = (server: RedisServer) => Promise<Contender>;

/** An admission that is a promise. Whatever goes wrong ends the bench. */
export function promised(ask: () => Promise<unknown>): Contender['admit'] {
  return (granted) => void ask().then(granted);
}
