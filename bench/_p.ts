import { staticRoutes, demand, introduce, fastStore, EIGHT, answered, shuffled } from '/work/main/bench/support/egresses.ts';
for (const n of [1,10,1000,100000,1000000]) {
  const routes = staticRoutes(n);
  const store = fastStore();
  introduce(store, 't', EIGHT, routes);
  const d = demand(EIGHT);
  for (let r = 0; r < 4; r++) {
    const N = 500000; let miss = 0;
    const t = performance.now();
    for (let i = 0; i < N; i++) {
      const { grants } = store.reserve('t', d);
      if (grants.length === 0) { miss++; continue; }
      store.settle('t', [answered(grants[0])]);
    }
    const ns = (performance.now() - t) * 1e6 / N;
    console.log(n, 'select', ns.toFixed(0), 'miss', miss);
  }
  const order = shuffled(n, 500000);
  const store2 = store;
  const ds = routes.map(r => demand(EIGHT, r));
  for (let r = 0; r < 3; r++) {
    const N = 500000; let miss = 0;
    const t = performance.now();
    for (let i = 0; i < N; i++) {
      const { grants } = store2.reserve('t', ds[order[i]]);
      if (grants.length === 0) { miss++; continue; }
      store2.settle('t', [answered(grants[0])]);
    }
    console.log(n, 'pin', ((performance.now() - t) * 1e6 / N).toFixed(0), 'miss', miss);
  }
}
