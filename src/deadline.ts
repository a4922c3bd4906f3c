import type { Call } from './call.ts';
import type { Engine } from './engine.ts';
import { DeadlineError } from './errors.ts';

/** The caller's signal and `timeouts.totalMs` in one. */
export interface Deadline {
  readonly signal: AbortSignal | undefined;
  end(): void;
  /** The response is the caller's now; the deadline goes on until its body has ended. */
  responded(): void;
}

const NONE: Deadline = { signal: undefined, end() {}, responded() {} };

/** The deadline of one call. Its timer ends with the body. */
export function deadlineOf(call: Call, own: AbortSignal | undefined, { clock, timeouts }: Engine): Deadline {
  const { totalMs } = timeouts;
  if (totalMs === undefined) return own === undefined ? NONE : { ...NONE, signal: own };
  const controller = new AbortController();
  const timer = clock.setTimeout(() => controller.abort(new DeadlineError(totalMs)), totalMs);
  const end = (): void => clock.clearTimeout(timer);
  return {
    signal: own === undefined ? controller.signal : AbortSignal.any([own, controller.signal]),
    end,
    responded() {
      if (call.live === undefined) end();
      else call.onEnd = end;
    },
  };
}
