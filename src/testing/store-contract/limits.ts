import { like } from './like.ts';
import { proxies } from './scenery.ts';
import { type Cases, told } from './stage.ts';

/** Four in 100 ms, two at once: one every 33⅓ ms. */
const rate = { limit: 4, windowMs: 100, burst: 2 };
const interval = 100 / 3;

const two = [
  { limit: 10, windowMs: 100, burst: 10 },
  { limit: 3, windowMs: 100, burst: 3 },
];

/** Limits over all egresses together, and all of them or none. */
export const limits: Cases = {
  'rates: a burst at once, then one per interval, over all egresses': async (stage) => {
    const at = await stage(proxies(9), { rates: [rate] });
    like(told(await at.reserve(5)), { granted: 2, limiting: 'rate', retryInMs: interval });
    await at.pass(interval - 0.01);
    await at.refused('rate', 0.01);
    await at.pass(0.01);
    like(told(await at.reserve(5)), { granted: 1, limiting: 'rate', retryInMs: interval });
    await at.pass(10_000);
    like(await at.room(), 2);
  },

  'rates: several are taken all or none': async (stage) => {
    const at = await stage(proxies(1), { limit: 100, rates: two });
    like(told(await at.reserve(9)), { granted: 3, limiting: 'rate', retryInMs: 100 });
    for (let i = 0; i < 9; i++) await at.refused('rate', 100);
    like(await at.room({ applies: [true, false] }), 7);
  },

  'rates: they count only where they apply': async (stage) => {
    const at = await stage(proxies(1), { limit: 100, rates: two });
    like(await at.room({ applies: [false, true] }), 3);
    like(await at.room({ applies: [true, false] }), 10);
    like(await at.room({ applies: [false, false] }), 87);
  },

  'rates: a request takes what it costs': async (stage) => {
    const at = await stage(proxies(1), { limit: 100, rates: [{ limit: 9, windowMs: 100, burst: 5 }] });
    await at.grant({ cost: 4 });
    await at.refused('rate', 20, { cost: 2 });
    await at.grant();
    await at.refused('rate', 20);
    // More than the burst has to be saved up for.
    await at.refused('rate', 140, { cost: 7 });
  },

  'rates: what was cancelled comes back, but nothing that has come back by itself since': async (stage) => {
    // One every 50 ms, two at once.
    const at = await stage(proxies(1), { limit: 100, rates: [{ limit: 3, windowMs: 100, burst: 2 }] });
    const [first, second] = await at.grants(2);
    await at.cancel(first);
    await at.pass(75);
    await at.grant();
    await at.cancel(second);
    await at.grant();
    await at.refused('rate', 50);
  },

  'rates: a permit that was given back long after its share had come back gives nothing': async (stage) => {
    const at = await stage(proxies(9), { rates: [{ ...rate, burst: 1 }] });
    const first = await at.grant();
    await at.pass(30);
    await at.grant();
    await at.cancel(first);
    await at.refused('rate', 25);
  },

  'rates: what was settled does not come back': async (stage) => {
    const at = await stage(proxies(9), { rates: [rate] });
    for (const grant of await at.grants(2)) await at.answer(grant);
    await at.refused('rate', interval);
  },

  'rates: a limit that refuses takes nothing of the others': async (stage) => {
    const at = await stage(proxies(1), { limit: 1, rates: [rate], concurrency: 3 });
    await at.answer(await at.grant());
    const before = await at.target();
    for (let i = 0; i < 10; i++) like(told(await at.reserve(3)), { granted: 0 });
    like(await at.target(), before);
    await at.pass(100);
    // Rate and concurrency are there in full: the budget alone stood in the way.
    like((await at.reserve(3, { policy: { ...at.policy, limit: 9 } })).grants.length, 2);
  },

  'rates: a permit that is refused by the rate leaves its slot': async (stage) => {
    const at = await stage(proxies(1), { limit: 5, rates: [rate] });
    like(told(await at.reserve(5)), { granted: 2, limiting: 'rate' });
    like(await at.egress('pool/1'), { busy: 2, remaining: 3 });
    like(await at.target(), { active: 2 });
  },

  'rates: booked ahead, they are spent when the permit starts': async (stage) => {
    const at = await stage(proxies(1), { limit: 1, rates: [{ limit: 1, windowMs: 100, burst: 1 }] });
    await at.answer(await at.grant());
    await at.pass(99);
    await at.refused('rate', 1, { horizonMs: 50 });
    await at.pass(1);
    await at.grant({ horizonMs: 50 });
    await at.refused('rate', 100, { horizonMs: 50 });
  },

  'concurrency: at most so many in flight, over all egresses': async (stage) => {
    const at = await stage(proxies(9), { concurrency: 3 });
    like(told(await at.reserve(5)), { granted: 3, limiting: 'concurrency', retryInMs: Infinity });
    await at.pass(1000);
    await at.refused('concurrency', Infinity);
  },

  'concurrency: the place is free when the exchange ends, not when the headers come': async (stage) => {
    const at = await stage(proxies(9), { concurrency: 1 });
    const first = await at.grant();
    await at.answer(first, 'ok', { end: false });
    like(await at.target(), { active: 1 });
    await at.pass(50);
    await at.refused('concurrency', Infinity);
    await at.over(first);
    await at.grant();
  },

  'concurrency: a place is free again when the permit is cancelled, refused elsewhere, or lost': async (stage) => {
    const at = await stage(proxies(4), { limit: 1, concurrency: 1 });
    await at.cancel(await at.grant());
    const busy = await at.grant();
    like(await at.bind(busy, '10.0.0.1'), { ok: true });
    at.routes[0].egress = '10.0.0.1';
    await at.answer(busy);
    like(await at.bind(await at.grant(), '10.0.0.1'), { ok: false });
    await at.grant({ deadlineMs: 50 });
    await at.pass(49);
    await at.refused('concurrency', Infinity);
    await at.pass(1);
    await at.grant();
  },

  'concurrency: a lower one holds for what is in flight already': async (stage) => {
    const at = await stage(proxies(9), { concurrency: 3 });
    const grants = await at.grants(3);
    const policy = { ...at.policy, concurrency: 2 };
    await at.answer(grants[0]);
    await at.refused('concurrency', Infinity, { policy });
    await at.answer(grants[1]);
    like(await at.room({ policy }), 1);
  },

  'limiting: it names what stood in the way of the next permit': async (stage) => {
    const at = await stage(proxies(9), { limit: 1, rates: [rate], concurrency: 2 });
    like(told(await at.reserve(5)), { granted: 2, limiting: 'concurrency' });
    const few = await stage(proxies(1), { limit: 1, rates: [rate], concurrency: 2 });
    like(told(await few.reserve(5)), { granted: 1, limiting: 'budget' });
    const many = await stage(proxies(9), { limit: 1, rates: [rate] });
    like(told(await many.reserve(5)), { granted: 2, limiting: 'rate' });
  },

  'limiting: of a rate and a rest of the target, the later one': async (stage) => {
    const at = await stage(proxies(3), { limit: 9, scope: 'account', rates: [{ limit: 1, windowMs: 100, burst: 1 }] });
    await at.answer(await at.grant(), 'rate-limited', { retryAfterMs: 60 });
    await at.refused('rate', 100);
    await at.pass(100);
    await at.answer(await at.grant(), 'rate-limited', { retryAfterMs: 300 });
    await at.refused('target', 300);
  },
};
