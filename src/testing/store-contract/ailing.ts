import type { Grant, Outcome, Policy, Route, Verdict } from '../../store/store.ts';
import { like } from './like.ts';
import { HEALTH, proxies, ROOMY } from './scenery.ts';
import { kinds, type SetStage, type Stage } from './stage.ts';

/** That many requests over one route, all sent before the first answer, and all with this end. */
export async function repeatedly(at: Stage, pin: Route, count: number, outcome: Outcome): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const grant of await at.grants(count, { pin })) verdicts.push(...(await at.answer(grant, outcome)));
  return verdicts;
}

/** Makes the target use all of the routes; nothing is spent. */
export async function introduce(at: Stage): Promise<void> {
  const free = { limit: 1, spacingMs: 0, concurrency: undefined, adaptConcurrency: undefined };
  await at.cancel(...(await at.grants(at.routes.length, { policy: { ...at.policy, ...free } })));
  await at.cancel(await at.grant());
}

/** With health kept, and all of the routes in use. */
export async function using(stage: SetStage, routes: readonly Route[], policy: Partial<Policy> = {}): Promise<Stage> {
  const at = await stage(routes, { ...ROOMY, health: HEALTH, ...policy });
  await introduce(at);
  return at;
}

/** Two egresses, of which the first has just gone out. */
export async function out(stage: SetStage): Promise<{ at: Stage; bad: Route; good: Route }> {
  const [bad, good] = proxies(2);
  const at = await using(stage, [bad, good]);
  like(kinds(await repeatedly(at, bad, 10, 'blocked')), ['ejected']);
  return { at, bad, good };
}

/** Two egresses, of which the first is due for its probe. */
export async function due(stage: SetStage): Promise<{ at: Stage; bad: Route; good: Route }> {
  const scene = await out(stage);
  await scene.at.pass(3200);
  return scene;
}

/** The one permit that there is over the route. */
export async function probe(at: Stage, pin: Route): Promise<Grant> {
  const { grants, limiting } = await at.reserve(9, { pin });
  like([grants.length, limiting], [1, 'health']);
  return grants[0];
}
