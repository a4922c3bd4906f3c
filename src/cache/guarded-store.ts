import type { Writable } from 'node:stream';
import type { CacheStore } from './options.ts';

export type CacheKey = Parameters<CacheStore['get']>[0];
export type CacheValue = Parameters<CacheStore['createWriteStream']>[1];
export type CacheResult = NonNullable<Awaited<ReturnType<CacheStore['get']>>>;

/** Is told what the store found for it. */
interface Asking {
  stored: CacheResult | undefined;
}

/**
 * Stands before the store. A store that fails is one that has nothing; and what came back in place of the page (a refusal, a
 * challenge, whatever `classify` says) is about an IP, not about the page: it is neither kept nor does it drop what was.
 */
export class GuardedStore implements CacheStore {
  private inner: CacheStore | undefined;
  private readonly failed: (error: unknown) => void;
  private asking: Asking | undefined;
  private trusted = true;

  constructor(inner: CacheStore, failed: (error: unknown) => void) {
    this.inner = inner;
    this.failed = failed;
  }

  /** Runs `work`, whose look-up is for `asking`. undici looks up before it returns. */
  lookingFor(asking: Asking, work: () => void): void {
    this.asking = asking;
    try {
      work();
    } finally {
      this.asking = undefined;
    }
  }

  /** Runs `work`, in which undici decides what to keep and what to drop. */
  judging(trusted: boolean, work: () => void): void {
    this.trusted = trusted;
    try {
      work();
    } finally {
      this.trusted = true;
    }
  }

  get(key: CacheKey): CacheResult | Promise<CacheResult | undefined> | undefined {
    const { asking } = this;
    const found = this.attempt(() => this.inner?.get(key));
    if (found === undefined || found === null) return undefined;
    const note = (result: CacheResult | undefined): CacheResult | undefined => {
      if (asking !== undefined) asking.stored = result;
      return result;
    };
    if (!('then' in found)) return note(found);
    return found.then(note, (error) => {
      this.failed(error);
      return undefined;
    });
  }

  createWriteStream(key: CacheKey, value: CacheValue): Writable | undefined {
    if (!this.trusted) return undefined;
    return this.attempt(() => this.inner?.createWriteStream(key, value));
  }

  delete(key: CacheKey): void | Promise<void> {
    if (!this.trusted) return undefined;
    return this.attempt(() => this.inner?.delete(key))?.catch?.(this.failed);
  }

  /** Lets go of everything kept. */
  close(): void {
    this.inner = undefined;
  }

  private attempt<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.failed(error);
      return undefined;
    }
  }
}
