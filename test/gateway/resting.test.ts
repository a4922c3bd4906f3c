import { describe, expect, it } from 'vitest';
import { Resting } from '../../src/gateway/resting.ts';
import { parseProxyUrl } from '../../src/gateway/template.ts';

const [one, two] = ['http://192.0.2.1:8080', 'http://192.0.2.2:8080'].map((url) => parseProxyUrl('proxies', url));

describe('Resting', () => {
  it('rests a proxy for a second, and twice as long each time it fails again, up to a minute', () => {
    const resting = new Resting();
    const rests: number[] = [];
    for (let now = 0; rests.length < 9; ) {
      resting.failed(one, now);
      rests.push(resting.nextAt - now);
      now = resting.nextAt;
      expect(resting.take(now)).toEqual([one]);
    }
    expect(rests).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60].map((s) => s * 1000));
  });

  it('forgets the failures of one that works again', () => {
    const resting = new Resting();
    resting.failed(one, 0);
    resting.take(1000);
    resting.worked(one);
    resting.failed(one, 5000);
    expect(resting.nextAt).toBe(6000);
  });

  it('gives each back in its own time, and once', () => {
    const resting = new Resting();
    resting.failed(one, 0);
    resting.failed(two, 500);
    expect(resting.take(999)).toEqual([]);
    expect(resting.take(1000)).toEqual([one]);
    expect(resting.take(1000)).toEqual([]);
    expect(resting.nextAt).toBe(1500);
    expect(resting.take(2000)).toEqual([two]);
    expect(resting.nextAt).toBe(Infinity);
  });
});
