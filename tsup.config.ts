import { defineConfig } from 'tsup';

export default defineConfig({
  entry: ['src/index.ts', 'src/testing/index.ts', 'src/redis.ts', 'src/sqlite.ts'],
  format: 'esm',
  platform: 'node',
  // `node:sqlite` goes by no other name.
  removeNodeProtocol: false,
  target: 'node22',
  dts: true,
  clean: true,
  splitting: true,
  treeshake: true,
});
