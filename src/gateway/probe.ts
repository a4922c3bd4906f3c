import { isIP } from 'node:net';
import type { Dispatcher } from 'undici';
import { egressKey } from '../egress-key.ts';
import { GatewayError } from '../errors.ts';
import type { Carrier } from './agents.ts';
import type { Dial } from './dial.ts';
import type { Gate } from './tunnels.ts';

/** More than any "what is my IP" page needs. */
const MOST_BYTES = 8192;

/** A probe is no request of the user's: it takes any tunnel, whatever its exit. */
class OpenGate implements Gate {
  readonly egress = '';
  dial: Dial | undefined;
  dialing(dial: Dial): void {
    this.dial = dial;
  }
  admit(): void {}
  carriedBy(client: { release(): void }): void {
    this.release = () => client.release();
  }
  release: () => void = () => {};
}

/**
 * Asks a "what is my IP" page through a route, once a session. Reads the first address in the answer, be it plain text or JSON.
 * Rejects with a {@link GatewayError} of kind `exit-failed`.
 */
export function probeEgress(carrier: Carrier, url: URL, pool: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const gate = new OpenGate();
    let text = '';
    const failed = (why: string, cause?: unknown): void => {
      gate.release();
      reject(
        new GatewayError(`probing ${url.origin} for the exit's address: ${why}`, { kind: 'exit-failed', pool, cause }),
      );
    };
    let answered = 0;
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart() {},
      onResponseStart(_controller, status) {
        answered = status;
      },
      onResponseData(_controller, chunk) {
        if (text.length < MOST_BYTES) text += chunk.toString('latin1');
      },
      onResponseEnd() {
        const address = answered < 400 ? findAddress(text) : undefined;
        if (address === undefined) {
          failed(answered < 400 ? 'no IP address in the answer' : `status ${answered}`);
          return;
        }
        gate.release();
        resolve(egressKey(address));
      },
      onResponseError(_controller, error) {
        if (error instanceof GatewayError) {
          gate.release();
          reject(error);
        } else failed(error.message, error);
      },
    };
    const options = {
      origin: url.origin,
      path: url.pathname + url.search,
      method: 'GET',
      headers: { accept: 'text/plain, application/json' },
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
    } as const;
    carrier.dispatch(options, handler, gate);
  });
}

/** The first thing in a text that is an IP address. */
export function findAddress(text: string): string | undefined {
  for (const word of text.slice(0, MOST_BYTES).split(/[^0-9A-Fa-f.:]+/)) {
    if (word.length >= 3 && isIP(word) !== 0) return word;
  }
  return undefined;
}
