import type { Dispatcher } from 'undici';
import { Call } from './call.ts';
import { PacedDispatcher } from './dispatcher.ts';
import type { Engine } from './engine.ts';
import type { Holding } from './holding.ts';

/**
 * Everything through one lease's way out. The first request to its target goes out on the lease's own permit, and settles it;
 * every other one is admitted by itself, and waits its turn on this way. Closing it ends nothing: the lease does that.
 */
export class LeaseDispatcher extends PacedDispatcher {
  declare private readonly holding: Holding;
  declare private readonly tier: string | undefined;

  constructor(engine: Engine, holding: Holding, tier: string | undefined) {
    super(engine, () => Promise.resolve());
    Object.defineProperty(this, 'holding', { value: holding });
    Object.defineProperty(this, 'tier', { value: tier });
  }

  protected override send(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const { engine, holding, tier } = this;
    const call = new Call(tier === undefined ? {} : { tier }, holding.way, false);
    return engine.dispatch(call, options, handler, holding.held ? holding : undefined);
  }
}
