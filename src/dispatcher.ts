import { Dispatcher, Dispatcher1Wrapper } from 'undici';
import { Call } from './call.ts';
import type { Engine } from './engine.ts';
import { showAs } from './inspect.ts';

/**
 * The manager as an undici Dispatcher: every dispatch is admitted, sent and observed on its own.
 * Nothing is tried again down here, since a body can be sent only once; `proxies.fetch` does that above.
 */
export class PacedDispatcher extends Dispatcher {
  // No #private fields: undici's compose() puts a proxy in front of a dispatcher, which cannot reach them.
  declare protected readonly engine: Engine;
  declare private readonly end: (force: boolean) => Promise<void>;

  constructor(engine: Engine, end: (force: boolean) => Promise<void>) {
    super();
    // Not enumerable: a dispatcher ends up in options that people print.
    Object.defineProperty(this, 'engine', { value: engine });
    Object.defineProperty(this, 'end', { value: end });
    showAs(this, () => 'PacedDispatcher {}');
  }

  toJSON(): object {
    return {};
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    // The fetch of Node 22 and 24 speaks an older undici's handler interface.
    const spoken = typeof handler.onRequestStart === 'function' ? handler : adapted(handler);
    return this.send(options, spoken);
  }

  protected send(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.engine.entry.dispatch(new Call({}, undefined, false), options, handler);
  }

  override close(): Promise<void>;
  override close(callback: () => void): void;
  override close(callback?: () => void): Promise<void> | undefined {
    return finish(this.end(false), callback);
  }

  override destroy(): Promise<void>;
  override destroy(error: Error | null): Promise<void>;
  override destroy(callback: () => void): void;
  override destroy(error: Error | null, callback: () => void): void;
  override destroy(error?: Error | null | (() => void), callback?: () => void): Promise<void> | undefined {
    return finish(this.end(true), typeof error === 'function' ? error : callback);
  }
}

function finish(ended: Promise<void>, callback: (() => void) | undefined): Promise<void> | undefined {
  if (callback === undefined) return ended;
  ended.then(callback, callback);
  return undefined;
}

function adapted(handler: Dispatcher.DispatchHandler): Dispatcher.DispatchHandler {
  const { wrapHandler } = Dispatcher1Wrapper as unknown as {
    wrapHandler(handler: Dispatcher.DispatchHandler): Dispatcher.DispatchHandler;
  };
  return wrapHandler(handler);
}
