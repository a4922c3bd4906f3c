import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

export const PAGES = 12;
const ITEMS = 5;

export interface Site extends AsyncDisposable {
  readonly url: string;
  /** Requests it turned away, by reason. */
  readonly refused: readonly string[];
}

/** A shop with a login form. It shows its pages only to who is logged in, and only at the IP that the login came from. */
export async function loginSite(): Promise<Site> {
  const logins = new Map<string, string>();
  const refused: string[] = [];

  const answer = async (request: IncomingMessage): Promise<[number, Record<string, string>, unknown?]> => {
    const ip = request.socket.remoteAddress ?? '';
    const url = new URL(request.url ?? '/', 'http://site');
    if (request.method === 'POST' && url.pathname === '/login') {
      const form = new URLSearchParams(await text(request));
      if (form.get('user') !== 'ada' || form.get('password') !== 'lovelace') return [401, {}];
      const id = randomBytes(8).toString('hex');
      logins.set(id, ip);
      // The cookie comes with the redirect: a client that only looks at the last answer never sees it.
      return [303, { 'set-cookie': `sid=${id}; Path=/; HttpOnly; Max-Age=600`, location: '/orders?page=1' }];
    }
    const id = /(?:^|; )sid=([0-9a-f]+)/.exec(request.headers.cookie ?? '')?.[1] ?? '';
    const reason = !logins.has(id) ? 'not logged in' : logins.get(id) !== ip ? 'another IP' : undefined;
    if (reason !== undefined) {
      refused.push(reason);
      return [403, {}, { reason }];
    }
    const page = Number(url.searchParams.get('page'));
    const items = Array.from({ length: ITEMS }, (_, i) => `order ${(page - 1) * ITEMS + i + 1}`);
    return [200, {}, { items, next: page < PAGES ? `/orders?page=${page + 1}` : undefined }];
  };

  const server = createServer((request, response) => {
    answer(request).then(
      ([status, headers, body = {}]) => response.writeHead(status, headers).end(JSON.stringify(body)),
      () => response.destroy(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    refused,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function text(request: IncomingMessage): Promise<string> {
  let all = '';
  for await (const piece of request.setEncoding('utf8')) all += piece;
  return all;
}
