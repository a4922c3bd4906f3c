import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { Row } from './main.ts';

const HALF_HOUR_MS = 1_800_000;

async function svg(spec: TopLevelSpec): Promise<string> {
  return new View(parse(compile(spec).spec), { renderer: 'none' }).toSVG();
}

/** SVG files by name. */
export async function plots(rows: readonly Row[]): Promise<Record<string, string>> {
  const order = rows.map(({ name }) => name);
  const overTime = rows.flatMap(({ name, endings }) => {
    const bins = Map.groupBy(endings, ({ startedAt }) => Math.floor(startedAt / HALF_HOUR_MS));
    return [...bins].map(([bin, of]) => ({
      strategy: name,
      hour: (bin + 0.5) / 2,
      success: of.filter(({ ok }) => ok).length / of.length,
    }));
  });
  const bar = (field: keyof Row, title: string): TopLevelSpec => ({
    background: 'white',
    width: 320,
    data: { values: rows.map((row) => ({ strategy: row.name, value: row[field] as number })) },
    encoding: {
      y: { field: 'strategy', type: 'nominal', sort: order, title: null },
      x: { field: 'value', type: 'quantitative', title },
      color: { condition: { test: "datum.strategy === 'paceline'", value: '#1b7f4d' }, value: '#9aa5b1' },
    },
    layer: [
      { mark: 'bar' },
      {
        mark: { type: 'text', align: 'left', dx: 3, color: '#333' },
        encoding: { text: { field: 'value', type: 'quantitative', format: ',.3~f' }, color: { value: '#333' } },
      },
    ],
  });
  return {
    'success.svg': await svg({
      background: 'white',
      width: 560,
      height: 260,
      data: { values: overTime },
      mark: { type: 'line', strokeWidth: 2 },
      encoding: {
        x: { field: 'hour', type: 'quantitative', title: 'hours' },
        y: { field: 'success', type: 'quantitative', title: 'success', axis: { format: '%' }, scale: { zero: false } },
        color: { field: 'strategy', type: 'nominal', sort: order, title: null },
      },
    }),
    'sends-per-page.svg': await svg(bar('sendsPerPage', 'sends a page')),
    'ips-burned.svg': await svg(bar('bans', 'IPs banned')),
    'bytes.svg': await svg(bar('megabytes', 'MB on the wire')),
    'limited.svg': await svg(bar('limited', '429 answers')),
  };
}
