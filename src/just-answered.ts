/** Answered, and its permit's store not told yet. */
export interface Untold {
  /** Tells it, if that has not been done. */
  tell(): void;
}

/**
 * The answers of this very moment. A small response comes whole: whoever waits until what came with the headers has been looked at tells
 * the store once of both, the answer and its end.
 */
export class JustAnswered {
  private readonly fresh: Untold[] = [];
  private readonly ready: Promise<void> = Promise.resolve();
  private readonly tellAll = (): void => {
    const { fresh } = this;
    let i = 0;
    try {
      // Who is told may answer others meanwhile.
      for (; i < fresh.length; i++) fresh[i].tell();
    } finally {
      fresh.splice(0, i + 1);
      if (fresh.length > 0) this.ready.then(this.tellAll);
    }
  };

  /** `tell` will be called before anything else can happen. */
  add(one: Untold): void {
    if (this.fresh.push(one) === 1) this.ready.then(this.tellAll);
  }
}
