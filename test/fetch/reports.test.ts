import { memoryStore, type Report, type Store } from 'paceline';
import { mockGateway } from 'paceline/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { pacedManager } from '../support/paced.ts';
import { type ScriptedTarget, scriptedTarget } from '../support/scripted-target.ts';

// What the store is told of a permit: when its answer is there, and when that has ended; in one report where both are there at once.

let target: ScriptedTarget;
let finish: () => void;
let reports: Pick<Report, 'outcome' | 'end'>[];
let store: Store;

beforeEach(async () => {
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  target = await scriptedTarget((request, response) => {
    if (request.url === '/refused') response.writeHead(429, { 'retry-after': '1' });
    if (request.url === '/quota') response.setHeader('x-ratelimit-remaining', '0').setHeader('x-ratelimit-limit', '9');
    if (request.url === '/quota') response.setHeader('x-ratelimit-reset', '60');
    if (request.url !== '/slow') {
      response.end('all of it');
      return;
    }
    response.write('the beginning');
    finished.then(() => response.end('and the end'));
  });
  const memory = memoryStore();
  reports = [];
  store = {
    reserve: (...call) => memory.reserve(...call),
    bind: (...call) => memory.bind(...call),
    cancel: (...call) => memory.cancel(...call),
    inspect: (...call) => memory.inspect(...call),
    close: () => memory.close(),
    settle(name, some) {
      reports.push(...some.map(({ outcome, end }) => ({ outcome, end })));
      return memory.settle(name, some);
    },
  };
});
afterEach(() => target[Symbol.asyncDispose]());

async function get(path: string, read: (body: Promise<string>) => Promise<void>): Promise<void> {
  await using gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
  await using proxies = pacedManager({ gateway: gateway.url, store, retry: { attempts: 1 } });
  const response = await proxies.fetch(`http://shop.test${path}`);
  await read(response.text());
}

it('of a response that comes whole it is told once', async () => {
  await get('/', async (body) => expect(await body).toBe('all of it'));
  expect(reports).toEqual([{ outcome: 'ok', end: true }]);
});

it('of one whose body takes its time it is told when the headers are here', async () => {
  await get('/slow', async (body) => {
    // Before the caller has the response.
    expect(reports).toEqual([{ outcome: 'ok', end: false }]);
    finish();
    expect(await body).toBe('the beginningand the end');
  });
  expect(reports).toEqual([
    { outcome: 'ok', end: false },
    { outcome: undefined, end: true },
  ]);
});

it.each([
  ['/refused', 'rate-limited'],
  ['/quota', 'ok'],
])('of one that asks for a rest it is told at once: %s', async (path, outcome) => {
  await get(path, async (body) => void (await body));
  expect(reports).toEqual([
    { outcome, end: false },
    { outcome: undefined, end: true },
  ]);
});
