import type { Pool } from './gateway/pool.ts';
import type { Lane } from './lanes.ts';

/** Lanes that wait for something of their pool, in turn. */
class PoolLine {
  private readonly lines = new Map<string, Set<Lane>>();

  add(lane: Lane): void {
    const line = this.lines.get(lane.pool.name);
    if (line === undefined) this.lines.set(lane.pool.name, new Set([lane]));
    else line.add(lane);
  }

  delete(lane: Lane): void {
    if (this.lines.size === 0) return;
    const line = this.lines.get(lane.pool.name);
    if (line?.delete(lane) && line.size === 0) this.lines.delete(lane.pool.name);
  }

  has(pool: string): boolean {
    return this.lines.has(pool);
  }

  /** Those who stand in line at the moment: not who joins, or joins again, meanwhile. */
  of(pool: string): Lane[] {
    const line = this.lines.get(pool);
    return line === undefined ? [] : [...line];
  }
}

/** Who waits for something of their pool: for a place in it, or for another session. */
export class PoolLines {
  private readonly roomless = new PoolLine();
  private readonly growing = new PoolLine();
  private readonly drain: (lane: Lane) => void;

  /** `drain` asks for those of a lane. */
  constructor(drain: (lane: Lane) => void) {
    this.drain = drain;
  }

  /** Waits for a place. */
  waitForRoom(lane: Lane): void {
    this.roomless.add(lane);
  }

  /** Whether another session would help. */
  grows(lane: Lane, would: boolean): void {
    if (would) this.growing.add(lane);
    else this.growing.delete(lane);
  }

  forget(lane: Lane): void {
    this.roomless.delete(lane);
    this.growing.delete(lane);
  }

  /** Places are free: to the lanes that wait for one, in turn. */
  fill(pool: Pool): void {
    if (!this.roomless.has(pool.name) || pool.room <= 0) return;
    for (const lane of this.roomless.of(pool.name)) {
      this.roomless.delete(lane);
      if (lane.waiters.size > 0) this.drain(lane);
      if (pool.room <= 0) return;
    }
  }

  /** Whether anybody waits whom another session would help. */
  isShort(pool: string): boolean {
    return this.growing.has(pool);
  }

  /** A permit of this target was bound or given back: if that changed what the pool has, those who wait for more may ask. */
  grew(name: string, target: string): void {
    const lanes = this.growing.of(name);
    if (lanes.length === 0) return;
    const { pool } = lanes[0];
    if (!pool.changed) return;
    pool.changed = false;
    for (const lane of lanes) {
      if (lane.waiters.size === 0) continue;
      if (lane.queue.key === target || pool.offerInMs(lane.isHeldBack) === 0) this.drain(lane);
    }
  }
}
