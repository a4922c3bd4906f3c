import { describe, expect, it } from 'vitest';
import { JustAnswered } from '../src/just-answered.ts';

describe('answers of this moment', () => {
  it('are told of after it, in order, each once', async () => {
    const told: number[] = [];
    const answers = new JustAnswered();
    for (const n of [1, 2]) answers.add({ tell: () => told.push(n) });
    expect(told).toEqual([]);
    await Promise.resolve();
    expect(told).toEqual([1, 2]);
    answers.add({ tell: () => told.push(3) });
    await Promise.resolve();
    expect(told).toEqual([1, 2, 3]);
  });

  it('and those that come meanwhile, too', async () => {
    const told: number[] = [];
    const answers = new JustAnswered();
    answers.add({
      tell: () => {
        told.push(1);
        answers.add({ tell: () => told.push(2) });
      },
    });
    await Promise.resolve();
    expect(told).toEqual([1, 2]);
  });

  it('whoever throws surfaces on its own, and keeps nobody else from being told', async () => {
    const thrown: unknown[] = [];
    const surface = (reason: unknown): void => void thrown.push(reason);
    const before = process.rawListeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection').on('unhandledRejection', surface);
    try {
      const told: number[] = [];
      const answers = new JustAnswered();
      answers.add({ tell: () => told.push(1) });
      answers.add({
        tell: () => {
          throw new Error('a bug');
        },
      });
      answers.add({ tell: () => told.push(3) });
      await new Promise(setImmediate);
      expect(told).toEqual([1, 3]);
      expect(thrown).toEqual([new Error('a bug')]);
      answers.add({ tell: () => told.push(4) });
      await Promise.resolve();
      expect(told).toEqual([1, 3, 4]);
    } finally {
      process.off('unhandledRejection', surface);
      for (const one of before) process.on('unhandledRejection', one as () => void);
    }
  });
});
