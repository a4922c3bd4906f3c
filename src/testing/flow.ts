import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.ts';
import { pause } from './delays.ts';

/** One direction of a tunnel: bytes with backpressure and half-close, which can be held back for a while. */
export class Flow {
  private held = false;
  private ended = false;
  private stopped = false;
  private readonly from: Duplex;
  private readonly to: Duplex;
  private readonly clock: Clock;

  constructor(from: Duplex, to: Duplex, clock: Clock) {
    this.from = from;
    this.to = to;
    this.clock = clock;
  }

  /** Lets it flow through `onChunk`, the first bytes after `latencyMs`. */
  start(latencyMs: number, onChunk: (chunk: Buffer) => void): void {
    const { from, to } = this;
    let first = true;
    from.on('data', (chunk: Buffer) => {
      if (first && latencyMs > 0) this.hold(latencyMs, () => onChunk(chunk));
      else onChunk(chunk);
      first = false;
    });
    from.on('end', () => {
      // A paused stream ends all the same once its buffer is empty.
      this.ended = true;
      if (!this.held) this.finish();
    });
    to.on('drain', () => {
      if (!this.held) from.resume();
    });
    from.resume();
  }

  /** Passes nothing on any more, the end included. */
  stop(): void {
    this.stopped = true;
  }

  write(chunk: Buffer): void {
    const { from, to } = this;
    if (!to.destroyed && !to.writableEnded && !to.write(chunk)) from.pause();
  }

  /** Stops for `ms`, calls `then`, and goes on. */
  hold(ms: number, then: () => void): void {
    this.held = true;
    this.from.pause();
    void pause(this.clock, ms, this.to).then((alive) => {
      this.held = false;
      if (!alive) return;
      then();
      if (this.ended) this.finish();
      else this.from.resume();
    });
  }

  private finish(): void {
    if (!this.stopped) this.to.end();
  }
}
