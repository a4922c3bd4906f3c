import { registerHooks } from 'node:module';
import tsconfig from '../../tsconfig.all.json' with { type: 'json' };

// What `workers.ts` has every child process load before its own file.

// The package by its public names, straight from the source, as in the tests.
const sources: Readonly<Record<string, readonly string[]>> = tsconfig.compilerOptions.paths;
registerHooks({
  resolve(name, context, next) {
    const source = sources[name];
    return source ? next(new URL(`../../${source[0]}`, import.meta.url).href, context) : next(name, context);
  },
});

// The wall clock set wrong; timers and `performance.now()` go on as they are, as on a machine whose clock is wrong.
const offsetMs = Number(new URL(import.meta.url).searchParams.get('clockOffsetMs'));
if (offsetMs !== 0) {
  const now = Date.now;
  Date.now = () => now() + offsetMs;
  globalThis.Date = new Proxy(Date, {
    construct: (target, parts, self) => Reflect.construct(target, parts.length === 0 ? [Date.now()] : parts, self),
    apply: (target) => new target(Date.now()).toString(),
  });
  Object.defineProperty(performance, 'timeOrigin', { value: performance.timeOrigin + offsetMs });
}

// A test that is killed takes its workers with it; apart from that, the channel keeps nobody alive.
process.once('disconnect', () => process.exit(1));
process.channel!.unref();
