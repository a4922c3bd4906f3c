/** After an exit came up that is over budget, the next blind dial waits: this share of the window, doubled each time, at most the window. */
const FUTILE_SHARE = 1 / 256;

/** The pause after one more in a row, when `futile` came to nothing before it; milliseconds. */
export function futilePauseMs(futile: number, windowMs: number): number {
  return Math.min(1, FUTILE_SHARE * 2 ** futile) * windowMs;
}

/** Dials of a gateway that rotates, which name their exit only afterwards: how long to wait after those in a row that came to nothing. */
export class BlindDials {
  private futile = 0;
  /** Those of long ago do not count. */
  until: number = -Infinity;

  found(): void {
    this.futile = 0;
  }

  /** One more came up with an exit that is not to be used. Returns the pause before the next, in milliseconds. */
  failed(windowMs: number, now: number): number {
    if (this.until <= now) this.futile = 0;
    const pauseMs = futilePauseMs(this.futile++, windowMs);
    this.until = now + pauseMs + windowMs;
    return pauseMs;
  }
}
