import { egressKey } from 'paceline';
import { mockTarget } from 'paceline/testing';
import { tell, told, workerArgs } from './in-worker.ts';

// What `workers.test.ts` starts.

const { ask, fail } = workerArgs<{ ask?: boolean; fail?: string }>();
const target = await mockTarget();
await target.close();
await tell({
  egress: egressKey('::ffff:192.0.2.1'),
  nowMs: Date.now(),
  date: new Date().toISOString(),
  text: Date(),
  epochMs: new Date(0).getTime(),
  originMs: performance.timeOrigin + performance.now(),
  isDate: new Date() instanceof Date,
});
if (fail !== undefined) throw new Error(fail);
if (ask) await tell({ answer: [await told(), await told()] });
