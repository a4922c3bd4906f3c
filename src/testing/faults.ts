import type { Random } from '../clock.ts';
import { invalid, nonNegative, within } from '../validate.ts';

/** What a {@link Fault} does. */
export type FaultKind = 'status' | 'silence' | 'fin' | 'rst' | 'garbage' | 'slow' | 'drop' | 'switch-exit';
/** When a {@link Fault} strikes. */
export type FaultPoint = 'connect' | 'response' | 'body';

/** Something that goes wrong at the gateway. */
export interface Fault {
  /**
   * - `status`: refuses with `status`, `headers` and `body` (over SOCKS5: with the nearest reply code)
   * - `silence`: accepts, and never answers · `slow`: goes on after `delayMs`
   * - `fin`: closes · `rst`: resets · `garbage`: sends bytes that are not the protocol, then closes
   * - `drop`: cuts a tunnel in the middle of a response (or a forwarded response), after `afterBytes`
   * - `switch-exit`: the session moves to another exit, silently, and goes on
   */
  readonly kind: FaultKind;
  /** How often it strikes: an integer ≥ 1, or `Infinity`. @default 1; Infinity when `probability` is given */
  readonly times?: number;
  /** The chance that it strikes when it could, from 0 to 1. @default 1 */
  readonly probability?: number;
  /** Only this session. @default any */
  readonly session?: string;
  /** Only this exit. @default any */
  readonly exit?: string;
  /** Only this target, as the client names it: `shop.test` or `shop.test:443`. @default any */
  readonly target?: string;
  /**
   * `connect`: instead of the answer to CONNECT, the SOCKS5 request or the forwarded request · `response`: at the first
   * byte of the target's next answer, on new and on open tunnels · `body`: within it, after `afterBytes`.
   * @default 'body' for `drop`, else 'connect'
   */
  readonly at?: FaultPoint;
  /** With `status`: what to answer, from 300 to 599. @default 502 */
  readonly status?: number;
  /** With `status`: headers of the answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** With `status`: body of the answer. */
  readonly body?: string;
  /** Time before it strikes, in milliseconds. @default 0; 1_000 for `slow` */
  readonly delayMs?: number;
  /**
   * With `at: 'body'`: bytes of the answer to let through. They are counted from the end of its head where that can be
   * read, in a TLS tunnel from the first byte the target sends (a fresh tunnel's handshake takes 1 to 5 kB). @default 1
   */
  readonly afterBytes?: number;
  /** With `drop`: reset the connection rather than close it. @default false */
  readonly reset?: boolean;
}

/** What a fault is matched against. */
export interface Passing {
  readonly session: string | undefined;
  readonly exit: string;
  readonly host: string;
  readonly port: number;
}

interface Armed {
  readonly fault: Fault;
  left: number;
}

const KINDS: readonly FaultKind[] = ['status', 'silence', 'fin', 'rst', 'garbage', 'slow', 'drop', 'switch-exit'];
const POINTS: readonly FaultPoint[] = ['connect', 'response', 'body'];

/** The faults in waiting, in the order they were added. */
export class Faults {
  private armed: Armed[] = [];
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  /** Arms a fault and gives the function that disarms it. */
  add(fault: Fault): () => void {
    const armed: Armed = {
      fault: checked(fault),
      left: fault.times ?? (fault.probability === undefined ? 1 : Infinity),
    };
    this.armed.push(armed);
    return () => {
      this.armed = this.armed.filter((other) => other !== armed);
    };
  }

  /** The fault that strikes here, if any; it is used up by that. */
  take(points: readonly FaultPoint[], passing: Passing): Fault | undefined {
    for (const armed of this.armed) {
      const { fault } = armed;
      if (!points.includes(pointOf(fault)) || !matches(fault, passing)) continue;
      if (this.random() >= (fault.probability ?? 1)) continue;
      if (--armed.left === 0) this.armed = this.armed.filter((other) => other !== armed);
      return fault;
    }
    return undefined;
  }
}

/** When the fault strikes. */
export function pointOf(fault: Fault): FaultPoint {
  return fault.at ?? (fault.kind === 'drop' ? 'body' : 'connect');
}

/** How long the fault waits first. */
export function delayOfFault(fault: Fault): number {
  return fault.delayMs ?? (fault.kind === 'slow' ? 1_000 : 0);
}

function matches(fault: Fault, { session, exit, host, port }: Passing): boolean {
  if (fault.session !== undefined && fault.session !== session) return false;
  if (fault.exit !== undefined && fault.exit !== exit) return false;
  return fault.target === undefined || fault.target === host || fault.target === `${host}:${port}`;
}

function checked(fault: Fault): Fault {
  const { kind, times, probability, at, status, delayMs, afterBytes } = fault;
  if (!KINDS.includes(kind)) throw invalid('fault.kind', `one of ${KINDS.join(', ')}`, kind);
  if (at !== undefined && !POINTS.includes(at)) throw invalid('fault.at', `one of ${POINTS.join(', ')}`, at);
  const early = kind === 'status' || kind === 'switch-exit';
  if (early && pointOf(fault) !== 'connect') throw invalid('fault.at', `'connect' for '${kind}'`, at);
  if (kind === 'drop' && pointOf(fault) === 'connect') throw invalid('fault.at', `'response' or 'body' for 'drop'`, at);
  if (times !== undefined && times !== Infinity && !(Number.isInteger(times) && times >= 1)) {
    throw invalid('fault.times', 'an integer ≥ 1 or Infinity', times);
  }
  if (probability !== undefined) within('fault.probability', probability, 0, 1);
  if (status !== undefined) within('fault.status', status, 300, 599);
  if (delayMs !== undefined) nonNegative('fault.delayMs', delayMs, 'milliseconds');
  if (afterBytes !== undefined) nonNegative('fault.afterBytes', afterBytes, 'bytes');
  return fault;
}
