/**
 * A real browser that keeps a budget: each navigation takes a lease, leaves through the exit that the lease names, and
 * tells how it went. The site counts visits by IP, and finds none over its budget.
 *
 *   node examples/playwright-lease/main.ts          (needs Chromium: apt-get install chromium, or CHROMIUM=/path/to/it)
 */
import { accessSync, constants } from 'node:fs';
import { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { chromium } from 'playwright-core';

const executablePath = [process.env.CHROMIUM ?? '', '/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
});
if (executablePath === undefined) {
  console.log('No Chromium here: nothing to show. Install it (apt-get install chromium), or name it in CHROMIUM.');
  process.exit(0);
}

const budget = { limit: 2, windowMs: 3000 };
await using shop = await mockTarget({
  budget,
  handler: ({ path, ip }) => ({
    headers: { 'content-type': 'text/html' },
    body: `<link rel="icon" href="data:,"><title>${path}</title><p>You came from ${ip}</p>`,
  }),
});
await using gateway = await mockGateway({
  exits: 3,
  username: 'user',
  password: 'secret',
  hosts: { 'shop.test': shop.url },
});
await using proxies = new ProxyManager({
  gateway: gateway.url,
  targets: [{ match: 'shop.test', budget: { ...budget, spacing: 'burst' } }],
});

const browser = await chromium.launch({
  executablePath,
  args: [
    // Chromium has no sandbox for root, and does not proxy loopback unless it is told to.
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
    '--proxy-bypass-list=<-loopback>',
  ],
});

async function visit(path: string): Promise<void> {
  await using lease = await proxies.acquire(`http://shop.test${path}`);
  // A context has its own proxy, cookies and cache: one lease, one context.
  const context = await browser.newContext({ proxy: lease.proxy });
  try {
    const page = await context.newPage();
    const response = (await page.goto(`http://shop.test${path}`))!;
    lease.settle({ status: response.status(), headers: response.headers() });
    console.log(
      `  ${response.status()} ${await page.title()}  ${await page.textContent('p')}  (lease: ${lease.egress})`,
    );
  } catch (error) {
    // The tunnel failed: the shop never saw it. Anything else may have arrived.
    lease.settle(/ERR_(PROXY|TUNNEL)/.test(String(error)) ? 'gateway-error' : 'network-error');
    throw error;
  } finally {
    await context.close();
  }
}

try {
  console.log(`8 visits, 3 exits, ${budget.limit} visits an exit every ${budget.windowMs / 1000} s:`);
  await Promise.all(Array.from({ length: 8 }, (_, i) => visit(`/item/${i}`)));
  console.log(`over budget, as the shop counted: ${shop.overBudget()}`);
} finally {
  await browser.close();
}
