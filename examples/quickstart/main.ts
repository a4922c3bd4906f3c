/**
 * The shortest useful program. With `GATEWAY` set it goes through your gateway to `URLS`; without, through a mock on loopback.
 *
 *   node examples/quickstart/main.ts
 *   GATEWAY='http://user-session-{session}:pass@gw.example.com:10000' URLS='https://a.example/ https://b.example/' node examples/quickstart/main.ts
 */
import { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';

await using target = await mockTarget();
await using mock = await mockGateway();
const gateway = process.env.GATEWAY ?? mock.url;
const urls = process.env.URLS?.split(/\s+/) ?? Array.from({ length: 5 }, (_, i) => `${target.url}/item/${i}`);

// The part you would write:
await using proxies = new ProxyManager({ gateway });

await Promise.all(
  urls.map(async (url) => {
    const response = await proxies.fetch(url);
    const body = await response.text();
    const { egress, waitedMs, attempts } = proxies.exchange(response)!;
    console.log(
      `${response.status} ${url}: ${body.length} B from ${egress}, after ${Math.round(waitedMs)} ms, attempt ${attempts}`,
    );
  }),
);
