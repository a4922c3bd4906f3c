import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';

/** What is crawled, and from where. The windows of a real site are minutes; here they are seconds, so that the demo is short. */
export const PAGES = 2000;
export const EXITS = 40;
export const LIMIT = 8;
export const WINDOW_MS = 2500;
/** Requests at a time: the same for both runs. */
export const CONCURRENCY = 64;

/** One run's gateway and target; the target counts, on its own clock, who came too often. */
export interface World {
  readonly gateway: MockGateway;
  readonly target: MockTarget;
  close(): Promise<void>;
}

export async function openWorld(): Promise<World> {
  const target = await mockTarget({
    budget: { limit: LIMIT, windowMs: WINDOW_MS },
    latencyMs: [5, 60],
    bodyBytes: 2000,
  });
  const gateway = await mockGateway({ exits: EXITS, connectDelayMs: [5, 40], seed: 7 });
  return {
    gateway,
    target,
    async close() {
      await gateway.close();
      await target.close();
    },
  };
}

/** What a run came to. */
export interface Result {
  readonly name: string;
  readonly pages: number;
  readonly ms: number;
  readonly limited: number;
  readonly overBudget: number;
  readonly tunnels: number;
  readonly bytes: number;
  /** Mean time from the send to the headers. */
  readonly latencyMs: number;
}

/** Runs `load` for every page, `CONCURRENCY` at a time; counts those it says it got. */
export async function crawl(
  load: (page: number) => Promise<boolean>,
  progress: (done: number) => void,
): Promise<number> {
  let next = 0;
  let done = 0;
  let got = 0;
  const worker = async (): Promise<void> => {
    while (next < PAGES) {
      if (await load(next++)) got++;
      progress(++done);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return got;
}
