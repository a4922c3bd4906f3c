import { KEEP_MS } from './keeper.ts';
import type { Link } from './link.ts';
import type { ImportStep, Step } from './steps.ts';

// Steps about what happened while the state could not be asked.

/** All permits of this process that are not over, to be told to a state that may not know them. */
export function inFlight(link: Link, now: number): ImportStep {
  const permits = [...link.permits.values()].map(({ id, egress, cost, cooledAt, lostAt }) => ({
    id,
    egress,
    cost,
    cooledForMs: cooledAt === undefined ? undefined : now - cooledAt,
    keepMs: cooledAt === undefined ? Math.max(1, lostAt - now) : KEEP_MS,
  }));
  return { do: 'import', permits };
}

/** The names of all permits that these steps may have taken. */
export function permitsOf(steps: readonly Step[]): string[] {
  const permits: string[] = [];
  for (const step of steps) {
    if (step.do !== 'reserve') continue;
    for (let n = 0; n < step.count; n++) permits.push(`${step.id}.${n}`);
  }
  return permits;
}
