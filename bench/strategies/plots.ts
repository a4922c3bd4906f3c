import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { JitterRow } from './jitter.ts';
import type { Row } from './measure.ts';

async function svg(spec: TopLevelSpec): Promise<string> {
  return new View(parse(compile(spec).spec), { renderer: 'none' }).toSVG();
}

const OURS = '#1b7f4d';
const OTHERS = '#9aa5b1';
/** One colour each, told apart by colour-blind readers too (Okabe and Ito); ours is the thick one. */
const LINES = ['#d55e00', '#e69f00', '#56b4e9', '#0072b2', '#cc79a7', '#7f7f7f', OURS];

const POWERS_OF_TEN = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];

/** A bar for each strategy; `log` where one would crush the others, on which a zero is drawn as nothing but still named. */
function bars(rows: readonly Row[], field: keyof Row, title: string, log = false): TopLevelSpec {
  const values = rows.map((row) => ({ strategy: row.name, value: row[field] as number }));
  const most = Math.max(...values.map(({ value }) => value));
  const domain = log ? [1, most * 6] : [0, most * 1.15];
  const shown = values.map((row) => ({ ...row, from: domain[0], to: Math.max(domain[0], row.value) }));
  return {
    background: 'white',
    width: 420,
    data: { values: shown },
    encoding: {
      y: { field: 'strategy', type: 'nominal', sort: rows.map(({ name }) => name), title: null },
      x: {
        field: 'to',
        type: 'quantitative',
        title: log ? `${title} (log scale)` : title,
        scale: { type: log ? 'log' : 'linear', domain, nice: false },
        axis: { grid: true, format: log ? '~s' : ',~r', ...(log ? { values: POWERS_OF_TEN } : { tickCount: 6 }) },
      },
    },
    layer: [
      {
        mark: 'bar',
        encoding: {
          x2: { field: 'from' },
          color: { condition: { test: "datum.strategy === 'paceline'", value: OURS }, value: OTHERS },
        },
      },
      {
        mark: { type: 'text', align: 'left', dx: 4, color: '#333' },
        encoding: { text: { field: 'value', type: 'quantitative', format: most < 100 ? ',.2f' : ',.0f' } },
      },
    ],
  };
}

/** Calls and time of the contending clients, as SVG files by name. */
export async function jitterPlots(rows: readonly JitterRow[]): Promise<Record<string, string>> {
  const order = [...new Set(rows.map(({ strategy }) => strategy))];
  const line = (field: 'calls' | 'seconds', title: string): object => ({
    width: 330,
    height: 260,
    mark: { type: 'line', strokeWidth: 2, point: true },
    encoding: {
      x: { field: 'clients', type: 'quantitative', title: 'clients' },
      y: { field, type: 'quantitative', title, scale: { type: field === 'seconds' ? 'log' : 'linear' } },
      color: {
        field: 'strategy',
        type: 'nominal',
        sort: order,
        title: null,
        legend: { labelLimit: 0 },
        scale: { range: [...LINES.slice(0, 5), OURS] },
      },
    },
  });
  return {
    'jitter.svg': await svg({
      background: 'white',
      data: { values: rows.map((row) => ({ ...row, seconds: row.ms / 1000 })) },
      hconcat: [
        line('calls', 'calls until all are through'),
        line('seconds', 'seconds until all are through (log scale)'),
      ],
    } as TopLevelSpec),
  };
}

/** SVG files by name. */
export async function plots(rows: readonly Row[]): Promise<Record<string, string>> {
  const order = rows.map(({ name }) => name);
  const overTime = rows.flatMap(({ name, overTime }) =>
    overTime.map((success, bin) => ({ strategy: name, hour: (bin + 0.5) / 4, success })),
  );
  return {
    'success.svg': await svg({
      background: 'white',
      width: 620,
      height: 280,
      data: { values: overTime },
      mark: { type: 'line' },
      encoding: {
        x: { field: 'hour', type: 'quantitative', title: 'hours (asked for in this quarter)', axis: { tickCount: 8 } },
        y: {
          field: 'success',
          type: 'quantitative',
          title: 'got within 10 minutes',
          axis: { format: '%' },
          scale: { domain: [0, 1] },
        },
        color: {
          field: 'strategy',
          type: 'nominal',
          sort: order,
          title: null,
          legend: { labelLimit: 0 },
          scale: { range: LINES, domain: order },
        },
        strokeWidth: { condition: { test: "datum.strategy === 'paceline'", value: 4 }, value: 1.8 },
      },
    }),
    'sends-per-page.svg': await svg(bars(rows, 'sendsPerPage', 'sends a page')),
    'ips-burned.svg': await svg(bars(rows, 'bans', 'bans of an IP', true)),
    'bytes.svg': await svg(bars(rows, 'bytesPerPage', 'kB on the wire a page')),
    'limited.svg': await svg(bars(rows, 'limited', '429 answers', true)),
    'waits.svg': await svg(bars(rows, 'meanWaitS', 'mean seconds from asking to the end')),
  };
}
