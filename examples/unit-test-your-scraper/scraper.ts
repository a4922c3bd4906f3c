import type { ProxyManager } from 'paceline';

/** The code under test: it takes its proxies, and so its time and its network, from outside. */
export async function scrapePrices(
  proxies: Pick<ProxyManager, 'fetch'>,
  shop: string,
  items: number,
): Promise<number[]> {
  return Promise.all(
    Array.from({ length: items }, async (_, i) => {
      const response = await proxies.fetch(`${shop}/item/${i}`);
      if (!response.ok) throw new Error(`item ${i}: ${response.status}`);
      const { price } = (await response.json()) as { price: number };
      return price;
    }),
  );
}
