import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../clock.ts';
import type { Awaitable } from '../store/store.ts';
import { Dial } from './dial.ts';
import type { Gate } from './tunnels.ts';

/** undici's name for "open me a socket", narrowed to what we use. */
export type Connect = (
  params: { host: string; hostname: string; protocol: string; port: string; servername?: string; signal?: AbortSignal },
  callback: (error: Error | null, socket?: unknown) => void,
) => void;

/** Opens the way for one dial, through a proxy or directly. */
export type OpenTunnel = (params: Parameters<Connect>[0], dial: Dial, callback: Parameters<Connect>[1]) => void;

export interface TunnelSettings {
  readonly clock: Clock;
  readonly connectMs: number;
  readonly headersMs: number;
  readonly bodyMs: number;
  /** The error of a dial that took longer than `connectMs`. */
  readonly timeoutError: (dial: Dial) => Error;
}

/** Runs one dial: bounded in time, abortable, checked, and never failing with a code on which undici would dial again. */
export function dialFor(
  gate: Gate,
  params: Parameters<Connect>[0],
  open: OpenTunnel,
  { clock, connectMs, timeoutError }: TunnelSettings,
  done: (error: Error | null, socket: unknown, dial: Dial | undefined) => void,
): Dial {
  const dial = new Dial();
  let timer: TimerHandle | undefined;
  let over = false;
  const finish = (error: Error | null, socket?: unknown): void => {
    if (over) {
      (socket as { destroy(): void } | undefined)?.destroy();
      return;
    }
    over = true;
    clock.clearTimeout(timer);
    if (error === null) {
      dial.finished();
      done(null, socket, dial);
    } else {
      dial.abort(error);
      dial.finished();
      done(withoutRedial(error), undefined, undefined);
    }
  };
  timer = clock.setTimeout(() => finish(timeoutError(dial)), connectMs);
  dial.onAbort(finish);
  dial.verify = () => gate.admit(dial);
  gate.dialing(dial);
  open(params, dial, (error, socket) => {
    if (error !== null) {
      finish(error);
      return;
    }
    // The handshake with the target took its time: ask once more, now that nothing stands between us and the request.
    settle(
      () => gate.admit(dial),
      () => ((socket as Socket).destroyed ? finish(lostTunnel((socket as Socket).errored)) : finish(null, socket)),
      finish,
    );
  });
  return dial;
}

/** The tunnel, once open, was closed before the request could leave. */
export function lostTunnel(cause: Error | null | undefined): Error {
  return Object.assign(new Error('the tunnel was closed before the request could leave', { cause }), {
    code: 'ECONNRESET',
  });
}

/** Runs `work`, which may answer now or later, and goes on without a needless turn of the event loop. */
function settle(work: () => Awaitable<void>, done: () => void, failed: (error: Error) => void): void {
  let pending: Awaitable<void>;
  try {
    pending = work();
  } catch (error) {
    failed(error as Error);
    return;
  }
  if (pending === undefined) done();
  else Promise.resolve(pending).then(done, failed);
}

/** undici takes these codes for a broken idle connection and dials again, for ever. */
function withoutRedial(error: Error): Error {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'UND_ERR_SOCKET' && code !== 'UND_ERR_INFO') return error;
  return new Error(error.message, { cause: error });
}
