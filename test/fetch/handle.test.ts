import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import type { Dispatcher } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collectGarbage } from '../support/garbage.ts';
import { pacedManager } from '../support/paced.ts';

// The handle that a dispatch gives its handler: one from the queue to the end, with nothing behind it after that.

let target: MockTarget;
let gateway: MockGateway;
let proxies: ReturnType<typeof pacedManager>;

beforeEach(async () => {
  target = await mockTarget({
    handler: ({ path }) => (path === '/cut' ? { reset: true } : { body: 'x'.repeat(1000) }),
  });
  gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
  proxies = pacedManager({ gateway: gateway.url });
});
afterEach(async () => {
  await proxies.close();
  await Promise.all([target.close(), gateway.close()]);
});

interface Told {
  /** The handle, as each callback got it. */
  readonly handles: Dispatcher.DispatchController[];
  readonly rawHeadersAtEnd: unknown;
  readonly options: WeakRef<object>;
}

/** One dispatch, to its end: good or bad. */
function dispatch(path: string): Promise<Told> {
  const handles: Dispatcher.DispatchController[] = [];
  const options = { origin: 'http://shop.test', path, method: 'GET' as const };
  const held = new WeakRef(options);
  return new Promise((resolve) => {
    const end = (handle: Dispatcher.DispatchController): void => {
      handles.push(handle);
      resolve({ handles, rawHeadersAtEnd: handle.rawHeaders, options: held });
    };
    proxies.dispatcher.dispatch(options, {
      onRequestStart: (handle) => handles.push(handle),
      onResponseStart: (handle) => handles.push(handle),
      onResponseData: (handle) => handles.push(handle),
      onResponseEnd: end,
      onResponseError: end,
    });
  });
}

describe.each([
  ['a response', '/page', 4],
  ['a failure', '/cut', 2],
])('the handle of %s', (_what, path, callbacks) => {
  it('is the same in every callback, and knows the raw headers in the last one still', async () => {
    const { handles, rawHeadersAtEnd } = await dispatch(path);
    expect(handles.length).toBe(callbacks);
    expect(new Set(handles).size).toBe(1);
    expect(Array.isArray(rawHeadersAtEnd)).toBe(path === '/page');
  });

  it('holds nothing of the request after its end, however long it is kept itself', async () => {
    const kept: Told[] = [];
    for (let i = 0; i < 5; i++) kept.push(await dispatch(path));
    await new Promise((resolve) => setTimeout(resolve, 20));
    collectGarbage();
    // The last one may still be on a stack, or in what undici keeps for its next request.
    expect(kept.slice(0, -1).map(({ options }) => options.deref())).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(kept.map(({ handles }) => handles[0].rawHeaders)).toEqual(Array(5).fill(undefined));
  });

  it('takes what comes too late for nothing', async () => {
    const { handles } = await dispatch(path);
    const [handle] = handles;
    handle.pause();
    handle.resume();
    handle.abort(new Error('too late'));
    expect(handle.aborted).toBe(true);
    expect((await dispatch('/page')).handles).toHaveLength(4);
    expect((await proxies.stats()).inFlight).toBe(0);
  });
});
