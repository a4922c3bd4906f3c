import type { Call } from './call.ts';

/** A constructor that gives back what it was given: what a subclass adds, it adds to that. */
class Given {
  constructor(object: object) {
    // biome-ignore lint/correctness/noConstructorReturn: the point of it
    return object;
  }
}

/**
 * The call behind a response, in a private field of the response itself: nobody else can see it, and the two are collected
 * together. A WeakMap would do the same, at a price for every collection that grows with the responses alive.
 */
export class Stamp extends Given {
  #call: Call;

  private constructor(response: object, call: Call) {
    super(response);
    this.#call = call;
  }

  static on(response: object, call: Call): void {
    // A foreign fetch may give the same response twice.
    if (#call in response) (response as Stamp).#call = call;
    else new Stamp(response, call);
  }

  static of(response: object): Call | undefined {
    return typeof response === 'object' && response !== null && #call in response
      ? (response as Stamp).#call
      : undefined;
  }
}
