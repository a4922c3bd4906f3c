import type { Jar } from './cookies.ts';
import { SessionLostError } from './errors.ts';
import type { PoolRoute } from './gateway/pool.ts';
import type { SessionBook } from './session-book.ts';

/** What a session holds from one rotation to the next: a route, and the cookies that belong to its exit. */
export class Stay {
  readonly route: PoolRoute;
  readonly jar: Jar | undefined;
  /** It ends rather than go on from another exit. */
  readonly strict: boolean;
  /** Why nothing more goes out on it. */
  lost: SessionLostError | undefined;
  private readonly book: SessionBook;

  constructor(book: SessionBook, route: PoolRoute, jar: Jar | undefined, strict: boolean) {
    this.book = book;
    this.route = route;
    this.jar = jar;
    this.strict = strict;
  }

  /** The cookies for one request; none when it is to go without, in fetch's own terms. */
  jarFor(input: unknown, init: unknown): Jar | undefined {
    const said = credentialsOf(init) ?? credentialsOf(input);
    return said === 'omit' ? undefined : this.jar;
  }

  /** A tunnel came up on `egress`. @throws {SessionLostError} when that is another exit than it was, and that matters. */
  check(egress: string | undefined): void {
    if (this.lost !== undefined) throw this.lost;
    const { route, strict } = this;
    // Before the first tunnel there is nothing to compare.
    if (!strict || egress === undefined || !route.verified || egress === route.egress) return;
    throw this.lose('exit-changed', egress);
  }

  lose(reason: SessionLostError['reason'], actual: string | undefined): SessionLostError {
    const { route } = this;
    this.lost ??= new SessionLostError({
      session: route.session ?? route.id,
      reason,
      expected: route.verified ? route.egress : undefined,
      actual,
    });
    this.book.tell(route, 'lost');
    return this.lost;
  }
}

function credentialsOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? (value as { credentials?: unknown }).credentials : undefined;
}
