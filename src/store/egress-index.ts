import { grown } from './heap.ts';

/** Packs a dotted IPv4 address into an int32, or returns `undefined` for anything else. */
export function packIPv4(text: string): number | undefined {
  const length = text.length;
  if (length < 7 || length > 15) return undefined;
  let packed = 0;
  let part = 0;
  let digits = 0;
  let dots = 0;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code === 46) {
      if (digits === 0) return undefined;
      packed = (packed << 8) | part;
      part = 0;
      digits = 0;
      dots++;
    } else if (code >= 48 && code <= 57) {
      // A leading zero would not survive the way back: such a key stays a string.
      if (digits > 0 && part === 0) return undefined;
      part = part * 10 + (code - 48);
      if (part > 255) return undefined;
      digits++;
    } else return undefined;
  }
  if (dots !== 3 || digits === 0) return undefined;
  return (packed << 8) | part;
}

export function unpackIPv4(packed: number): string {
  return `${packed >>> 24}.${(packed >>> 16) & 255}.${(packed >>> 8) & 255}.${packed & 255}`;
}

/** Fibonacci hashing: spreads neighbouring addresses over the table. */
const SPREAD = 0x9e3779b1;
const EMPTY = -1;
const GONE = -2;

/**
 * Egress key → entry. IPv4 addresses, nearly all keys there are, live as numbers in an open-addressing table:
 * 8 bytes at half load where a Map of strings takes 70. Everything else lives in a Map.
 */
export class EgressIndex {
  private table: Int32Array = new Int32Array(8).fill(EMPTY);
  private shift = 29;
  private used = 0;
  private readonly others = new Map<string, number>();
  /** Packed address of each entry, for entries keyed by an IPv4 address. */
  private addresses: Int32Array = new Int32Array(4);
  private readonly names = new Map<number, string>();

  find(key: string): number {
    const packed = packIPv4(key);
    if (packed === undefined) return this.others.get(key) ?? -1;
    const { table, addresses } = this;
    const mask = table.length - 1;
    for (let at = Math.imul(packed, SPREAD) >>> this.shift; ; at = (at + 1) & mask) {
      const entry = table[at];
      if (entry === EMPTY) return -1;
      if (entry !== GONE && addresses[entry] === packed) return entry;
    }
  }

  add(key: string, entry: number): void {
    const packed = packIPv4(key);
    if (packed === undefined) {
      this.others.set(key, entry);
      this.names.set(entry, key);
      return;
    }
    if (entry >= this.addresses.length) {
      const addresses = new Int32Array(Math.max(grown(this.addresses.length), entry + 1));
      addresses.set(this.addresses);
      this.addresses = addresses;
    }
    this.addresses[entry] = packed;
    if ((this.used + 1) * 4 > this.table.length * 3) this.rehash();
    this.insert(packed, entry);
    this.used++;
  }

  remove(entry: number): void {
    const name = this.names.get(entry);
    if (name !== undefined) {
      this.names.delete(entry);
      this.others.delete(name);
      return;
    }
    const mask = this.table.length - 1;
    let at = Math.imul(this.addresses[entry], SPREAD) >>> this.shift;
    while (this.table[at] !== entry) at = (at + 1) & mask;
    this.table[at] = GONE;
  }

  keyOf(entry: number): string {
    return this.names.get(entry) ?? unpackIPv4(this.addresses[entry]);
  }

  private insert(packed: number, entry: number): void {
    const { table } = this;
    const mask = table.length - 1;
    let at = Math.imul(packed, SPREAD) >>> this.shift;
    while (table[at] >= 0) at = (at + 1) & mask;
    table[at] = entry;
  }

  /** Doubles, or only drops the tombstones when they are what fills the table. */
  private rehash(): void {
    const old = this.table;
    let live = 0;
    for (let i = 0; i < old.length; i++) if (old[i] >= 0) live++;
    const size = live * 2 >= old.length ? old.length * 2 : old.length;
    this.table = new Int32Array(size).fill(EMPTY);
    this.shift = 32 - Math.log2(size);
    this.used = live;
    for (let i = 0; i < old.length; i++) if (old[i] >= 0) this.insert(this.addresses[old[i]], old[i]);
  }
}
