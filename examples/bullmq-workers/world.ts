import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';

export const QUEUE = 'pages';
export const WORKERS = 4;
export const PAGES = 120;
export const EXITS = 10;
/** What the site allows each IP, and what all workers together are to ask of it. */
export const BUDGET = { limit: 4, windowMs: 2000, spacing: 'burst' } as const;
export const RATE = { limit: 40, windowMs: 2000 } as const;

/** A worker tells of every failure of a job. */
export interface News {
  readonly name: string;
  readonly message: string;
}

export interface World extends AsyncDisposable {
  readonly shop: MockTarget;
  readonly gateway: MockGateway;
}

/** A shop that breaks the connection the first three times that every tenth page is asked for, and has no page 0. */
export async function openWorld(): Promise<World> {
  const asked = new Map<string, number>();
  const shop = await mockTarget({
    budget: BUDGET,
    latencyMs: [5, 60],
    handler({ path }) {
      if (path === '/item/0') return { status: 404 };
      asked.set(path, (asked.get(path) ?? 0) + 1);
      return path.endsWith('5') && asked.get(path)! <= 3 ? { reset: true } : undefined;
    },
  });
  const gateway = await mockGateway({
    exits: EXITS,
    connectDelayMs: [5, 40],
    seed: 7,
    hosts: { 'shop.test': shop.url },
  });
  return {
    shop,
    gateway,
    async [Symbol.asyncDispose]() {
      await gateway.close();
      await shop.close();
    },
  };
}
