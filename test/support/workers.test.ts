import { afterEach, describe, expect, it } from 'vitest';
import { type Workers, workers } from './workers.ts';

const file = new URL('./example.worker.ts', import.meta.url);

describe('child processes of the tests', () => {
  let crew: Workers<{ ask?: boolean; fail?: string }, Record<string, unknown>>;
  const fresh = (): typeof crew => (crew = workers(file));
  afterEach(() => crew[Symbol.asyncDispose]());

  it('run the source of the package, each with a clock of its own', async () => {
    fresh();
    const offsets = [0, 300_000, -300_000];
    for (const clockOffsetMs of offsets) crew.start({}, { clockOffsetMs });
    await crew.ended();
    for (const [i, offset] of offsets.entries()) {
      const told = await crew.all[i].message();
      expect(told).toMatchObject({ egress: '192.0.2.1', epochMs: 0, isDate: true });
      for (const time of [
        told.nowMs,
        Date.parse(told.date as string),
        told.originMs,
        Date.parse(told.text as string),
      ]) {
        expect(Math.abs((time as number) - Date.now() - offset)).toBeLessThan(10_000);
      }
    }
  });

  it('are told things and answer', async () => {
    const worker = fresh().start({ ask: true });
    worker.send('before it listens');
    await worker.message();
    worker.send('later');
    expect(await worker.message((message) => 'answer' in message)).toEqual({ answer: ['before it listens', 'later'] });
    await worker.ended;
  });

  it('can be killed', async () => {
    const worker = fresh().start({ ask: true });
    await worker.message();
    const answer = worker.message((message) => 'answer' in message);
    await worker.kill();
    expect(() => process.kill(worker.pid, 0)).toThrow('ESRCH');
    await expect(answer).rejects.toThrow('SIGKILL');
    await crew.ended();
  });

  it('say what they died of', async () => {
    fresh().start({});
    crew.start({ fail: 'a reason' });
    await expect(crew.ended()).rejects.toThrow('a reason');
  });
});
