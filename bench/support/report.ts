import Table from 'cli-table3';

/** What a bench set out to reach, and what came of it. */
export interface Goal {
  readonly what: string;
  readonly met: boolean;
}

/** The middle of the values; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Where the median of all there could be lies, with 95 % confidence, whatever their distribution: by order statistics. */
export function medianWithin(values: readonly number[]): [from: number, to: number] {
  const sorted = [...values].sort((a, b) => a - b);
  const reach = 0.98 * Math.sqrt(sorted.length);
  const at = (rank: number): number => sorted[Math.min(Math.max(rank, 0), sorted.length - 1)];
  return [at(Math.floor(sorted.length / 2 - reach)), at(Math.ceil(sorted.length / 2 + reach) - 1)];
}

/** Three significant digits, thousands separated: figures of a noisy machine are worth no more. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

export function times(ratio: number): string {
  return `${figure(ratio)} ×`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** Prints a titled table; the first column is text, the others are figures. Returns what it has printed. */
export function table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const out = new Table({
    head: [...head],
    colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')),
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) out.push([...row]);
  const text = `${title}\n${out.toString()}`;
  console.log(`\n${text}`);
  return text;
}

/** Says, and returns, of each goal whether it was met. A goal missed is a finding, not a failure of the bench: the exit code stays 0. */
export function verdicts(goals: readonly Goal[]): string {
  const text = goals.map(({ what, met }) => `${met ? 'meets ' : 'misses'}  ${what}`).join('\n');
  console.log(text);
  return text;
}
