import { ProxyManager } from 'paceline';
import { sqliteStore } from 'paceline/sqlite';

// A script that fetches some pages and ends, as cron would start it. It knows of the others by the file only.

const [, , file, gateway, shop, from, count] = process.argv;
const store = sqliteStore(file, { expectedWorkers: 4 });
const proxies = new ProxyManager({
  gateway,
  targets: [{ match: '127.0.0.1', budget: { limit: 5, windowMs: 2000, spacing: 'burst' } }],
  store,
});
const pages = Array.from({ length: Number(count) }, (_, i) => `${shop}/page/${Number(from) + i}`);
const statuses = await Promise.all(
  pages.map(async (url) => {
    const response = await proxies.fetch(url);
    await response.text();
    return response.status;
  }),
);
await proxies.close();
await store.close();
console.log(`process ${process.pid}: ${statuses.filter((status) => status === 200).length} pages`);
