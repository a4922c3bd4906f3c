import { staticRoutes, demand, introduce, fastStore, EIGHT, answered, shuffled } from './support/egresses.ts';
const n = Number(process.argv[2]), batch = Number(process.argv[3] ?? 1), spacing = Number(process.argv[4] ?? 0);
const policy = {...EIGHT, spacingMs: spacing};
  const routes = staticRoutes(n);
  const store = fastStore();
  introduce(store, 't', policy, routes);
  const d = {...demand(policy), count: batch};
  const out=[];
  for (let r = 0; r < 12; r++) {
    const N = 300000; let done = 0;
    const t = performance.now();
    while (done < N) {
      const { grants } = store.reserve('t', d);
      done += grants.length;
      store.settle('t', grants.map(answered));
    }
    const ns = (performance.now() - t) * 1e6 / done;
    if (r>=4) out.push(ns);
  }
  out.sort((a,b)=>a-b);
  console.log(n, batch, 'min', out[0].toFixed(0), 'median', out[out.length>>1].toFixed(0));
