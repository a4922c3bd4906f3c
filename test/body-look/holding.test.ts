import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import type { ProxyManager } from 'paceline';
import { type VirtualClock, virtualClock } from 'paceline/testing';
import { type Dispatcher, request } from 'undici';
import { describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';
import { type ScriptedTarget, scriptedTarget } from '../support/scripted-target.ts';

// While a response is held, its body may trickle, break, be aborted or paused. The permit ends once, and the caller misses nothing.

const NO_RETRY = { attempts: 1 };

/** A target that begins an answer of 403 and leaves the rest to the test. */
async function holding(
  first: string | Buffer = '',
  headers: Record<string, string> = { 'content-type': 'text/html' },
): Promise<ScriptedTarget & { readonly responses: ServerResponse[] }> {
  const responses: ServerResponse[] = [];
  const target = await scriptedTarget((_request, response) => {
    responses.push(response);
    response.writeHead(403, headers);
    response.flushHeaders();
    if (first.length > 0) response.write(first);
  });
  return Object.assign(Object.create(target) as ScriptedTarget, { responses });
}

/** How often permits ended, by outcome. */
function settlesOf(proxies: ProxyManager): string[] {
  const outcomes: string[] = [];
  proxies.on('settle', ({ outcome }) => outcomes.push(outcome));
  return outcomes;
}

async function isFree(proxies: ProxyManager): Promise<void> {
  await eventually(async () => (await proxies.stats()).inFlight).toBe(0);
  const { targets } = await proxies.stats();
  for (const { state } of Object.values(targets)) expect(state?.active ?? 0).toBe(0);
}

/** Long enough for what was written to come over loopback. */
const arrived = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));

/** The request has arrived, so that the only timer is that of the hold. */
async function isHeld(clock: VirtualClock, target: ScriptedTarget): Promise<void> {
  await eventually(() => target.seen).toBe(1);
  await eventually(() => clock.pending).toBe(1);
}

/** A handler that writes down what it is told. */
class Listener implements Dispatcher.DispatchHandler {
  readonly log: string[] = [];
  controller!: Dispatcher.DispatchController;
  onData: (() => void) | undefined;
  onStart: (() => void) | undefined;

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    this.controller = controller;
    this.log.push(`${status}`);
    this.onStart?.();
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.log.push(`${chunk}`);
    this.onData?.();
  }

  onResponseEnd(): void {
    this.log.push('end');
  }

  onResponseError(_controller: unknown, error: Error): void {
    this.log.push(`error: ${error.message}`);
  }

  sent(proxies: ProxyManager, target: { readonly url: string }): this {
    proxies.dispatcher.dispatch({ origin: target.url, path: '/', method: 'GET' }, this);
    return this;
  }
}

describe('a body that trickles', () => {
  it('is waited for a second, and not longer', async () => {
    const clock = virtualClock();
    await using target = await holding('Just a ');
    await using proxies = pacedManager({ clock, retry: NO_RETRY });
    const settles = settlesOf(proxies);
    let response: Awaited<ReturnType<ProxyManager['fetch']>> | undefined;
    const pending = proxies.fetch(target.url).then((answer) => (response = answer));
    await isHeld(clock, target);
    target.responses[0].write('moment');
    await clock.advance(999);
    expect([response, settles]).toEqual([undefined, []]);
    await clock.advance(1);
    await pending;
    expect([response?.status, settles]).toEqual([403, ['challenged']]);
    target.responses[0].end(' more');
    expect(await response?.text()).toBe('Just a moment more');
    expect(clock.pending).toBe(0);
    await isFree(proxies);
  });

  it('is taken for as long as it may be: a word on a page that goes on is no block', async () => {
    const clock = virtualClock();
    await using target = await scriptedTarget((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.write('<script src="https://www.google.com/recaptcha/api.js"></script><div class="g-recaptcha">');
    });
    await using proxies = pacedManager({ clock, inspectBody: true });
    const pending = proxies.fetch(target.url);
    await isHeld(clock, target);
    await arrived();
    await clock.advance(1000);
    const response = await pending;
    expect(proxies.exchange(response)?.outcome).toBe('ok');
    await response.body?.cancel();
    await isFree(proxies);
  });

  it('is handed over as soon as 8,192 characters are there', async () => {
    const clock = virtualClock();
    const page = Buffer.from(Array.from({ length: 2000 }, (_, i) => `<p>Line ${i * 7919} of it.</p>`).join(''));
    for (const [body, headers] of [
      [page.subarray(0, 9000), {}],
      [gzipSync(page).subarray(0, 6000), { 'content-encoding': 'gzip' }],
    ] as [Buffer, Record<string, string>][]) {
      await using target = await holding(body, { 'content-type': 'text/html', ...headers });
      await using proxies = pacedManager({ clock, retry: NO_RETRY });
      const response = await proxies.fetch(target.url);
      expect(response.status).toBe(403);
      await response.body?.cancel();
      await isFree(proxies);
      expect(clock.pending).toBe(0);
    }
  });

  it('is handed over once 64 KiB are there, whatever they are', async () => {
    const clock = virtualClock();
    // A gzip header with a name that does not end.
    const endless = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0]), Buffer.alloc(70_000, 'a')]);
    await using target = await holding(endless, { 'content-type': 'text/html', 'content-encoding': 'gzip' });
    await using proxies = pacedManager({ clock, retry: NO_RETRY });
    const response = await proxies.fetch(target.url);
    expect(proxies.exchange(response)?.outcome).toBe('blocked');
    await response.body?.cancel().catch(() => {});
  });

  it('is not waited for when it cannot be read anyway', async () => {
    await using target = await holding('', { 'content-type': 'text/html', 'content-encoding': 'compress' });
    await using proxies = pacedManager({ clock: virtualClock(), retry: NO_RETRY });
    const response = await proxies.fetch(target.url);
    expect(proxies.exchange(response)?.outcome).toBe('blocked');
    target.responses[0].end();
    await response.arrayBuffer();
  });

  it.each<[string, Record<string, string>]>([
    ['Retry-After', { 'retry-after': '60' }],
    ['an empty quota', { 'x-ratelimit-limit': '10', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '60' }],
  ])('is not waited for with %s: the egress rests at once', async (_what, headers) => {
    await using target = await scriptedTarget((_request, response) => {
      response.writeHead(401, { 'content-type': 'text/html', ...headers });
      response.write('captcha-delivery.com');
    });
    await using proxies = pacedManager({ clock: virtualClock(), retry: NO_RETRY });
    const cooldowns: number[] = [];
    proxies.on('cooldown', ({ forMs }) => cooldowns.push(forMs));
    const response = await proxies.fetch(target.url);
    expect([proxies.exchange(response)?.outcome, cooldowns]).toEqual(['ok', [60_000]]);
    await response.body?.cancel();
    await isFree(proxies);
  });

  it('cools its slot from then on, or later: the next request comes a window after the headers at least', async () => {
    const arrivals: number[] = [];
    await using target = await scriptedTarget((_request, response) => {
      arrivals.push(performance.now());
      response.writeHead(403, { 'content-type': 'text/html' });
      response.write('no');
      setTimeout(() => response.end(), 150);
    });
    const budget = { limit: 1, windowMs: 200, spacing: 'burst' } as const;
    await using proxies = pacedManager({ retry: NO_RETRY, targets: [{ match: '127.0.0.1', budget }] });
    for (let i = 0; i < 3; i++) await (await proxies.fetch(target.url)).text();
    expect(arrivals[1] - arrivals[0]).toBeGreaterThan(345);
    expect(arrivals[2] - arrivals[1]).toBeGreaterThan(345);
  });
});

describe('given up while it is held', () => {
  it.each(['fetch', 'undici.request'])('by the signal of %s', async (way) => {
    const check = resourceBaseline();
    {
      await using target = await holding('Access Denied');
      await using proxies = pacedManager({ retry: NO_RETRY });
      const settles = settlesOf(proxies);
      const controller = new AbortController();
      const { signal } = controller;
      const pending = failureOf(
        way === 'fetch'
          ? proxies.fetch(target.url, { signal })
          : request(target.url, { signal, dispatcher: proxies.dispatcher }),
      );
      await eventually(async () => (await proxies.stats()).inFlight).toBe(1);
      await eventually(() => target.responses.length).toBe(1);
      await arrived();
      const reason = new Error('mine');
      controller.abort(reason);
      expect(await pending).toBe(reason);
      expect(settles).toEqual(['blocked']);
      await isFree(proxies);
      await eventually(() => target.open).toBe(0);
    }
    await check();
  });

  it('hears of nothing but that', async () => {
    await using target = await holding('Access Denied');
    await using proxies = pacedManager({});
    const listener = new Listener().sent(proxies, target);
    await eventually(() => target.responses.length).toBe(1);
    await arrived();
    listener.controller.abort(new Error('mine'));
    await isFree(proxies);
    expect(listener.log).toEqual(['error: mine']);
  });

  it('by close, by force', async () => {
    await using target = await holding('Access Denied');
    const proxies = pacedManager({ retry: NO_RETRY });
    const settles = settlesOf(proxies);
    const pending = failureOf(proxies.fetch(target.url));
    await eventually(() => target.responses.length).toBe(1);
    await arrived();
    await proxies.close({ force: true });
    expect(await pending).toMatchObject({ code: 'PACELINE_CLOSED' });
    expect(settles).toEqual(['blocked']);
    await eventually(() => target.open).toBe(0);
  });

  it('not by close alone: what is under way comes to its end', async () => {
    await using target = await holding('Access Denied');
    const proxies = pacedManager({ retry: NO_RETRY });
    const pending = proxies.fetch(target.url).then((response) => response.text());
    await eventually(() => target.responses.length).toBe(1);
    await arrived();
    const closed = proxies.close();
    target.responses[0].end('!');
    expect(await pending).toBe('Access Denied!');
    await closed;
  });
});

describe('broken while it is held', () => {
  const breaks: [string, (response: ServerResponse) => void][] = [
    ['reset', (response) => response.socket?.resetAndDestroy()],
    ['ended in the middle', (response) => response.socket?.end()],
  ];

  it.each(breaks)('%s: the handler gets what there was, then the error', async (_how, breakIt) => {
    await using target = await holding('Access Denied');
    await using proxies = pacedManager({});
    const settles = settlesOf(proxies);
    const listener = new Listener().sent(proxies, target);
    await eventually(() => target.responses.length).toBe(1);
    await arrived();
    expect(listener.log).toEqual([]);
    breakIt(target.responses[0]);
    await eventually(() => listener.log.length).toBe(3);
    expect(listener.log).toEqual(['403', 'Access Denied', expect.stringMatching(/^error: /)]);
    expect(settles).toEqual(['blocked']);
    await isFree(proxies);
  });

  it.each(breaks)('%s: fetch fails, or its body does', async (_how, breakIt) => {
    await using target = await holding('Access Denied');
    await using proxies = pacedManager({ retry: NO_RETRY });
    const settles = settlesOf(proxies);
    const pending = failureOf(proxies.fetch(target.url).then((response) => response.text()));
    await eventually(() => target.responses.length).toBe(1);
    await arrived();
    breakIt(target.responses[0]);
    expect(await pending).toBeInstanceOf(Error);
    expect(settles).toEqual(['blocked']);
    await isFree(proxies);
  });

  it('a body that hangs: by the time limit, on top of the hold', async () => {
    await using target = await holding('Access Denied');
    await using proxies = pacedManager({ retry: NO_RETRY, timeouts: { bodyMs: 100 } });
    const pending = proxies.fetch(target.url).then((response) => response.text());
    expect(await failureOf(pending)).toBeInstanceOf(Error);
    await isFree(proxies);
  });
});

describe('a handler that pauses', () => {
  const PIECES = ['one ', 'two ', 'three '];

  /** A held response of three pieces, and no end yet; `written` when they have come. */
  async function inPieces(): Promise<Awaited<ReturnType<typeof holding>> & { readonly written: Promise<void> }> {
    const target = await holding();
    const written = (async () => {
      await eventually(() => target.responses.length).toBe(1);
      for (const piece of PIECES) {
        target.responses[0].write(piece);
        await arrived();
      }
    })();
    return Object.assign(target, { written });
  }

  it('at every piece, gets one at a time, and the rest when it asks', async () => {
    const clock = virtualClock();
    await using target = await inPieces();
    await using proxies = pacedManager({ clock });
    const listener = new Listener();
    listener.onData = () => listener.controller.pause();
    listener.sent(proxies, target);
    await isHeld(clock, target);
    await target.written;
    await clock.advance(1000);
    expect(listener.log).toEqual(['403', 'one ']);
    listener.controller.resume();
    expect(listener.log).toEqual(['403', 'one ', 'two ']);
    target.responses[0].write('four');
    listener.controller.resume();
    expect(listener.log).toEqual(['403', 'one ', 'two ', 'three ']);
    await arrived();
    listener.onData = undefined;
    listener.controller.resume();
    target.responses[0].end();
    await eventually(() => listener.log.at(-1)).toBe('end');
    expect(listener.log.slice(0, -1).join('')).toBe('403one two three four');
    await isFree(proxies);
  });

  it('from the start gets the head, and nothing of the body before it asks; the look is not held up', async () => {
    const clock = virtualClock();
    await using target = await inPieces();
    await using proxies = pacedManager({ clock });
    const settles = settlesOf(proxies);
    const listener = new Listener().sent(proxies, target);
    listener.controller.pause();
    await isHeld(clock, target);
    await target.written;
    target.responses[0].write('Access Denied'.repeat(1000));
    await eventually(() => settles.length).toBe(1);
    expect(settles).toEqual(['blocked']);
    expect(listener.log).toEqual(['403']);
    listener.controller.resume();
    target.responses[0].end('.');
    await eventually(() => listener.log.at(-1)).toBe('end');
    expect(listener.log.slice(1, -1).join('')).toBe(`${PIECES.join('')}${'Access Denied'.repeat(1000)}.`);
  });

  it('at the last piece that was held, gets no more before it asks', async () => {
    await using target = await holding('x'.repeat(9000));
    await using proxies = pacedManager({});
    const listener = new Listener();
    listener.onData = () => {
      listener.controller.pause();
      listener.onData = undefined;
    };
    listener.sent(proxies, target);
    await eventually(() => listener.log.length).toBe(2);
    target.responses[0].end('more');
    await arrived();
    expect(listener.log).toHaveLength(2);
    listener.controller.resume();
    await eventually(() => listener.log.slice(2)).toEqual(['more', 'end']);
  });

  it('and then ends: everything comes all the same, as of a connection that closes', async () => {
    await using target = await inPieces();
    await using proxies = pacedManager({});
    const listener = new Listener();
    listener.onStart = () => listener.controller.pause();
    listener.sent(proxies, target);
    await eventually(() => target.responses.length).toBe(1);
    await target.written;
    target.responses[0].end();
    await eventually(() => listener.log.at(-1)).toBe('end');
    expect(listener.log.slice(0, -1).join('')).toBe(`403${PIECES.join('')}`);
    await isFree(proxies);
  });

  it.each(['onStart', 'onData'] as const)(
    'or aborts in %s hears of the error once, and of nothing more',
    async (when) => {
      for (const ending of ['end', 'time']) {
        const clock = virtualClock();
        await using target = await inPieces();
        await using proxies = pacedManager({ clock });
        const listener = new Listener();
        listener[when] = () => listener.controller.abort(new Error('mine'));
        listener.sent(proxies, target);
        await isHeld(clock, target);
        await target.written;
        if (ending === 'end') target.responses[0].end();
        else await clock.advance(1000);
        await eventually(() => listener.log.at(-1)).toBe('error: mine');
        await isFree(proxies);
        expect(listener.log).toEqual(['403', ...(when === 'onData' ? ['one '] : []), 'error: mine']);
      }
    },
  );

  it.each(['onStart', 'onData'] as const)('or throws in %s hears of it', async (when) => {
    for (const ending of ['end', 'time', 'more', 'reset']) {
      const clock = virtualClock();
      await using target = await inPieces();
      await using proxies = pacedManager({ clock });
      const listener = new Listener();
      listener[when] = () => {
        throw new Error('a bug');
      };
      listener.sent(proxies, target);
      await isHeld(clock, target);
      await target.written;
      if (ending === 'end') target.responses[0].end();
      else if (ending === 'more') target.responses[0].write('x'.repeat(9000));
      else if (ending === 'reset') target.responses[0].socket?.resetAndDestroy();
      else await clock.advance(1000);
      await eventually(() => listener.log.at(-1)?.startsWith('error: ')).toBe(true);
      await isFree(proxies);
      expect(listener.log.slice(0, -1)).toEqual(['403', ...(when === 'onData' ? ['one '] : [])]);
      if (ending !== 'reset') expect(listener.log.at(-1)).toBe('error: a bug');
    }
  });
});

it('a refusal that is tried again costs no tunnel: its body is thrown away', async () => {
  await using target = await scriptedTarget((_request, response) => {
    response.writeHead(503, { 'content-type': 'text/html' });
    response.end('busy'.repeat(5000));
  });
  await using proxies = pacedManager({ retry: { attempts: 4 } });
  const response = await proxies.fetch(target.url);
  expect(proxies.exchange(response)).toMatchObject({ attempts: 4, outcome: 'target-error' });
  expect(await response.text()).toHaveLength(20_000);
  expect(target.accepted).toBe(1);
  await isFree(proxies);
});

describe('a redirect', () => {
  it('that leads to a captcha page: the answer is a challenge', async () => {
    await using target = await scriptedTarget((incoming, response) => {
      if (incoming.url === '/captcha') response.end('are you a robot?');
      else response.writeHead(302, { location: '/captcha' }).end('Access Denied');
    });
    await using proxies = pacedManager({});
    const response = await proxies.fetch(`${target.url}/item`);
    expect([response.status, proxies.exchange(response)?.outcome]).toEqual([200, 'challenged']);
    await response.text();
    const asked = await proxies.fetch(`${target.url}/captcha`);
    expect(proxies.exchange(asked)?.outcome).toBe('ok');
    await asked.text();
    await isFree(proxies);
  });
});
