import { Link } from './link.ts';

/** So long after its last use a target is forgotten, in milliseconds; what is shared of it has its own time to live. */
const FORGET_MS = 600_000;
const FIRST_LOOK = 64;

/** The targets that this process shares. */
export class Links {
  private readonly links = new Map<string, Link>();
  private lookAt = FIRST_LOOK;

  of(target: string, now: number): Link {
    let link = this.links.get(target);
    if (link === undefined) {
      if (this.links.size >= this.lookAt) this.forgetIdle(now);
      link = new Link(target);
      this.links.set(target, link);
    }
    return link;
  }

  known(target: string): Link | undefined {
    return this.links.get(target);
  }

  all(): Link[] {
    return [...this.links.values()];
  }

  /** Looks again when there are twice as many as are in use: else a program of many targets would look all the time. */
  private forgetIdle(now: number): void {
    for (const [target, { permits, seenAt }] of this.links) {
      if (permits.size === 0 && now - seenAt > FORGET_MS) this.links.delete(target);
    }
    this.lookAt = Math.max(FIRST_LOOK, 2 * this.links.size);
  }
}
