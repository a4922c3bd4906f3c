/** A count over the minute behind, by two weighted buckets: good enough for a temper. */
export class Recent {
  private minute = 0;
  private these = 0;
  private last = 0;

  add(now: number): void {
    this.turn(now);
    this.these++;
  }

  at(now: number): number {
    this.turn(now);
    return this.these + this.last * (1 - (now / 60_000 - this.minute));
  }

  private turn(now: number): void {
    const minute = Math.floor(now / 60_000);
    if (minute === this.minute) return;
    this.last = minute === this.minute + 1 ? this.these : 0;
    this.these = 0;
    this.minute = minute;
  }
}
