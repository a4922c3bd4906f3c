import { virtualClock } from 'paceline/testing';
import { expect, it } from 'vitest';
import { HeldResponse } from '../../src/held-response.ts';
import { PendingController } from '../../src/pending-controller.ts';

function held(during: (response: HeldResponse, controller: PendingController) => void = () => {}): {
  response: HeldResponse;
  log: unknown[];
  controller: PendingController;
  pending: () => number;
} {
  const log: unknown[] = [];
  const clock = virtualClock();
  const controller = new PendingController({ dumping: false, abandon() {} });
  const handler = {
    onResponseStart(_controller: unknown, status: number) {
      log.push(status);
      during(response, controller);
      log.push('started');
    },
    onResponseData(_controller: unknown, chunk: Buffer) {
      log.push(`${chunk}`);
      during(response, controller);
      log.push('taken');
    },
  };
  const head = { clock, controller, handler, status: 403, headers: {}, message: undefined };
  const response: HeldResponse = new HeldResponse(head, (body, cut) => void log.push({ body, cut }));
  return { response, log, controller, pending: () => clock.pending };
}

it('dropped while it is held: judged by what there is, and nothing goes on', () => {
  const { response, log, controller, pending } = held();
  response.take(Buffer.from('Access'));
  response.drop();
  response.end();
  expect(response.take(Buffer.from('Denied'))).toBe(false);
  controller.resume();
  expect([log, pending()]).toEqual([[{ body: 'Access', cut: true }], 0]);
});

it('dropped in the middle: the rest does not go on', () => {
  const { response, log, controller } = held();
  controller.pause();
  response.take(Buffer.alloc(9000, 'a'));
  response.take(Buffer.from('b'));
  expect(log).toEqual([{ body: 'a'.repeat(8192), cut: true }, 403, 'started']);
  response.drop();
  controller.resume();
  expect([log.length, response.take(Buffer.from('c'))]).toEqual([3, false]);
});

it('dropped by the handler, while it is given a piece: that was the last', () => {
  const { response, log } = held((self) => log.length > 3 && self.drop());
  response.take(Buffer.from('a'));
  response.take(Buffer.from('b'));
  response.end();
  expect(log).toEqual([{ body: 'ab', cut: false }, 403, 'started', 'a', 'taken']);
});

it('gives one thing at a time, whatever the handler does meanwhile', () => {
  const { response, log } = held((_self, controller) => {
    controller.pause();
    controller.resume();
  });
  response.take(Buffer.from('a'));
  response.take(Buffer.from('b'));
  response.end();
  expect(log).toEqual([{ body: 'ab', cut: false }, 403, 'started', 'a', 'taken', 'b', 'taken']);
  expect(response.break()).toBe(false);
});
