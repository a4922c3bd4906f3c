import { grown, type Positions } from './heap.ts';

// Layout of one record, ints: how many slots are busy, how many cool, where the ring starts, IPs it stands for.
const BUSY = 0;
const COOLING = 1;
const HEAD = 2;
const WEIGHT = 3;
const INTS = 4;
const UNLIMITED = 0;
// Floats: earliest next grant by spacing (= last grant without it), end of the cooldown, then the ring of release times, oldest first.
const SPACED = 0;
const COOLDOWN = 1;
const RING = 2;

const FIRST_RING = 8;

/**
 * The slots of every egress of one target, by the slot rule: a slot is *busy* from the grant until the response came back,
 * then *cools* for one window. Two uses of one slot reach the target at least a window apart, so no window holds more than `limit`.
 *
 * One record an egress in two typed arrays: a decision touches two or three cache lines, however many egresses there are.
 * Time is passed in. Entries are small integers, reused after {@link release}.
 */
export class SlotTable implements Positions {
  limit: number;
  windowMs: number;
  private ring = 0;
  private stride = RING;
  private ints: Int32Array = new Int32Array(INTS * 4);
  private floats: Float64Array = new Float64Array(RING * 4);
  /** Place of each entry in its heap. Apart from the records, since a step of the heap touches the places of many entries. */
  private places: Int32Array = new Int32Array(4);
  private capacity = 4;
  private readonly vacant: number[] = [];
  /** One past the highest entry ever used. */
  end = 0;

  constructor(limit: number, windowMs: number) {
    this.limit = limit;
    this.windowMs = windowMs;
    if (limit !== Infinity) this.relayout(Math.min(limit, FIRST_RING));
  }

  get(entry: number): number {
    return this.places[entry];
  }

  set(entry: number, position: number): void {
    this.places[entry] = position;
  }

  /** A new entry with all slots free; `weight` × limit of them, `Infinity` for an egress without a budget of its own. */
  allocate(weight: number): number {
    const entry = this.vacant.pop() ?? this.end++;
    if (entry >= this.capacity) this.grow();
    const i = entry * INTS;
    this.ints[i + BUSY] = 0;
    this.ints[i + COOLING] = 0;
    this.ints[i + HEAD] = 0;
    this.places[entry] = -1;
    this.ints[i + WEIGHT] = weight === Infinity ? UNLIMITED : weight;
    this.renew(entry);
    return entry;
  }

  /** Of an entry that is {@link idle}: as if it had never been used. */
  renew(entry: number): void {
    this.floats[entry * this.stride + SPACED] = -Infinity;
    this.floats[entry * this.stride + COOLDOWN] = -Infinity;
  }

  /** Forgets an entry; the caller has made sure that it is {@link idle}. */
  release(entry: number): void {
    this.ints[entry * INTS + BUSY] = -1;
    this.vacant.push(entry);
  }

  exists(entry: number): boolean {
    return entry < this.end && this.ints[entry * INTS + BUSY] >= 0;
  }

  /** Nothing of it is in use or cooling: forgetting it changes no decision. */
  idle(entry: number, now: number): boolean {
    this.thaw(entry, now);
    const i = entry * INTS;
    const f = entry * this.stride;
    return (
      this.ints[i + BUSY] === 0 &&
      this.ints[i + COOLING] === 0 &&
      this.floats[f + SPACED] <= now &&
      this.floats[f + COOLDOWN] <= now
    );
  }

  busy(entry: number): number {
    return this.ints[entry * INTS + BUSY];
  }

  cooling(entry: number): number {
    return this.ints[entry * INTS + COOLING];
  }

  /** Slots in use or cooling at `now`. */
  used(entry: number, now: number): number {
    this.thaw(entry, now);
    return this.busy(entry) + this.cooling(entry);
  }

  cooldownUntil(entry: number): number {
    return this.floats[entry * this.stride + COOLDOWN];
  }

  /** Slots that are free at `now`. */
  free(entry: number, now: number): number {
    this.thaw(entry, now);
    const i = entry * INTS;
    if (this.ints[i + WEIGHT] === UNLIMITED) return Infinity;
    return Math.max(0, this.limit * this.ints[i + WEIGHT] - this.ints[i + BUSY] - this.ints[i + COOLING]);
  }

  /** The earliest time this egress has `cost` slots: their releases, spacing and cooldown; `Infinity` when only a settle can tell. */
  usableAt(entry: number, now: number, cost = 1): number {
    const i = entry * INTS;
    const f = entry * this.stride;
    const { ints, floats } = this;
    const spaced = floats[f + SPACED];
    const cooldown = floats[f + COOLDOWN];
    const at = spaced > cooldown ? spaced : cooldown;
    if (this.limit === Infinity || ints[i + WEIGHT] === UNLIMITED) return at;
    this.thaw(entry, now);
    const cooling = ints[i + COOLING];
    const over = ints[i + BUSY] + cooling - this.limit * ints[i + WEIGHT] + cost - 1;
    if (over < 0) return at;
    if (over >= cooling) return Infinity;
    let place = ints[i + HEAD] + over;
    if (place >= this.ring) place -= this.ring;
    const freed = floats[f + RING + place] + this.windowMs;
    return freed > at ? freed : at;
  }

  spacedUntil(entry: number): number {
    return this.floats[entry * this.stride + SPACED];
  }

  /** Takes slots; the next one is to be had from `spacedUntil` on. */
  take(entry: number, spacedUntil: number, cost = 1): void {
    this.ints[entry * INTS + BUSY] += cost;
    this.floats[entry * this.stride + SPACED] = spacedUntil;
  }

  /** Returns slots as if they had never been taken; the spacing too, unless a later grant has set its own. */
  giveBack(entry: number, spacedUntil: number, spacedBefore: number, cost = 1): void {
    this.ints[entry * INTS + BUSY] -= cost;
    const f = entry * this.stride + SPACED;
    if (this.floats[f] === spacedUntil) this.floats[f] = spacedBefore;
  }

  /** A busy slot begins to cool at `at`: when the answer came, or when the request can no longer arrive. */
  cool(entry: number, at: number): void {
    const i = entry * INTS;
    this.ints[i + BUSY]--;
    if (this.limit === Infinity || this.ints[i + WEIGHT] === UNLIMITED) return;
    if (this.ints[i + COOLING] === this.ring) this.relayout(Math.max(this.ring * 2, FIRST_RING));
    const { ints, floats, ring } = this;
    const f = entry * this.stride + RING;
    const head = ints[i + HEAD];
    // Kept sorted: only a grace period (an aborted send) puts a release behind later ones.
    let n = ints[i + COOLING]++;
    let place = head + n;
    if (place >= ring) place -= ring;
    while (n > 0) {
      const before = place === 0 ? ring - 1 : place - 1;
      if (floats[f + before] <= at) break;
      floats[f + place] = floats[f + before];
      place = before;
      n--;
    }
    floats[f + place] = at;
  }

  /** The same for all slots of a permit. */
  coolAll(entry: number, at: number, cost: number): void {
    for (let n = 0; n < cost; n++) this.cool(entry, at);
  }

  /** The next grant no sooner than `until`, however many slots are free. */
  space(entry: number, until: number): void {
    const f = entry * this.stride + SPACED;
    if (until > this.floats[f]) this.floats[f] = until;
  }

  /** No grant on this egress before `until`. */
  cooldown(entry: number, until: number): void {
    const f = entry * this.stride + COOLDOWN;
    if (until > this.floats[f]) this.floats[f] = until;
  }

  /** Frees the slots whose window is over. */
  private thaw(entry: number, now: number): void {
    const i = entry * INTS;
    const { ints, floats } = this;
    let cooling = ints[i + COOLING];
    if (cooling === 0) return;
    const f = entry * this.stride + RING;
    const { windowMs } = this;
    let head = ints[i + HEAD];
    if (floats[f + head] + windowMs > now) return;
    do {
      cooling--;
      head = head + 1 === this.ring ? 0 : head + 1;
    } while (cooling > 0 && floats[f + head] + windowMs <= now);
    ints[i + HEAD] = head;
    ints[i + COOLING] = cooling;
  }

  private grow(): void {
    this.capacity = grown(this.capacity);
    const ints = new Int32Array(this.capacity * INTS);
    ints.set(this.ints);
    this.ints = ints;
    const places = new Int32Array(this.capacity);
    places.set(this.places);
    this.places = places;
    const floats = new Float64Array(this.capacity * this.stride);
    floats.set(this.floats);
    this.floats = floats;
  }

  /** Gives every record a ring of `ring` places, each starting at its oldest release. */
  private relayout(ring: number): void {
    const before = this.floats;
    const oldStride = this.stride;
    const oldRing = this.ring;
    this.ring = ring;
    this.stride = RING + ring;
    this.floats = new Float64Array(this.capacity * this.stride);
    for (let entry = 0; entry < this.end; entry++) {
      const i = entry * INTS;
      const from = entry * oldStride;
      const to = entry * this.stride;
      this.floats[to + SPACED] = before[from + SPACED];
      this.floats[to + COOLDOWN] = before[from + COOLDOWN];
      for (let k = 0; k < this.ints[i + COOLING]; k++) {
        this.floats[to + RING + k] = before[from + RING + ((this.ints[i + HEAD] + k) % oldRing)];
      }
      this.ints[i + HEAD] = 0;
    }
  }
}
