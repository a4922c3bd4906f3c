import { isIPv4 } from 'node:net';
import type { Clock, Random } from '../clock.ts';
import { invalid, within } from '../validate.ts';
import { isLoopback } from './sockets.ts';

/** How long an exit is kept: for a session, for one client connection, or for one request. */
export type Rotation = 'sticky' | 'per-connection' | 'per-request';
/** How a new session, or a request without one, gets its exit. */
export type Assign = 'random' | 'round-robin' | 'hash';

/** What one client connection keeps. */
export interface Connection {
  /** The exit it got, where the exit goes with the connection. */
  exit?: string;
}

interface Holding {
  /** Place of the exit in the list. */
  index: number;
  since: number;
  /** How often the session has moved. */
  moves: number;
}

/** 127.0.1.1, 127.0.1.2, … or the caller's own list; never .0 or .255. */
export function exitList(exits: number | readonly string[]): readonly string[] {
  if (typeof exits === 'number') {
    if (!Number.isInteger(exits)) throw invalid('exits', 'an integer or a list of addresses', exits);
    within('exits', exits, 1, 1_000_000);
    return Array.from({ length: exits }, (_, i) => {
      const third = 1 + Math.floor(i / 254);
      return `127.${third >> 8}.${third & 255}.${1 + (i % 254)}`;
    });
  }
  if (!Array.isArray(exits) || exits.length === 0) throw invalid('exits', 'a number or a non-empty list', exits);
  for (const [i, ip] of exits.entries()) {
    if (typeof ip !== 'string' || !isLoopback(ip))
      throw invalid(`exits[${i}]`, 'a loopback address such as 127.0.1.1', ip);
  }
  return [...exits];
}

/** Who leaves from where. */
export class Exits {
  private readonly held = new Map<string, Holding>();
  private readonly list: readonly string[];
  private readonly rotation: Rotation;
  private readonly assign: Assign;
  private readonly ttlMs: number;
  private readonly clock: Clock;
  private readonly random: Random;
  private cursor = 0;

  constructor(
    list: readonly string[],
    how: { rotation: Rotation; assign: Assign; ttlMs: number; clock: Clock; random: Random },
  ) {
    this.list = list;
    this.rotation = how.rotation;
    this.assign = how.assign;
    this.ttlMs = how.ttlMs;
    this.clock = how.clock;
    this.random = how.random;
  }

  /** The exit of one CONNECT or request. */
  pick(session: string | undefined, connection: Connection): string {
    if (this.rotation === 'per-request') return this.list[this.draw(undefined, 0)];
    if (this.rotation === 'sticky' && session !== undefined) return this.ofSession(session);
    connection.exit ??= this.list[this.draw(undefined, 0)];
    return connection.exit;
  }

  /** The exit that the session holds now. */
  current(session: string): string | undefined {
    const holding = this.held.get(session);
    return holding === undefined || this.over(holding) ? undefined : this.list[holding.index];
  }

  /** Gives the session another exit (the same when there is only one). */
  rotate(session: string): string {
    const holding = this.held.get(session);
    const moves = holding === undefined ? 0 : holding.moves + 1;
    const index = this.draw(session, moves, holding?.index);
    this.held.set(session, { index, since: this.clock.now(), moves });
    return this.list[index];
  }

  /** Another exit than `exit`, for what has no session. */
  other(exit: string): string {
    return this.list[this.draw(undefined, 0, this.list.indexOf(exit))];
  }

  sessions(): Record<string, string> {
    const all: Record<string, string> = {};
    for (const [session, holding] of this.held) if (!this.over(holding)) all[session] = this.list[holding.index];
    return all;
  }

  private ofSession(session: string): string {
    return this.current(session) ?? this.rotate(session);
  }

  private over(holding: Holding): boolean {
    return this.clock.now() - holding.since >= this.ttlMs;
  }

  /** A place in the list other than `not`. */
  private draw(session: string | undefined, moves: number, not?: number): number {
    const size = this.list.length;
    if (size === 1) return 0;
    if (this.assign === 'random') {
      if (not === undefined || not < 0) return Math.floor(this.random() * size);
      const index = Math.floor(this.random() * (size - 1));
      return index < not ? index : index + 1;
    }
    let index = this.assign === 'hash' && session !== undefined ? hash(`${session}#${moves}`) % size : this.step();
    if (index === not) index = this.assign === 'hash' ? (index + 1) % size : this.step();
    return index;
  }

  private step(): number {
    const index = this.cursor;
    this.cursor = (index + 1) % this.list.length;
    return index;
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

/** Whether a socket bound to `exit` can reach `ip`. */
export function sameFamily(exit: string, ip: string): boolean {
  return isIPv4(exit) === isIPv4(ip);
}
