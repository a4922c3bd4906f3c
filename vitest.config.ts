import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    // The tests speak to the package by its public names, straight from the source.
    alias: [
      { find: /^paceline\/testing$/, replacement: at('./src/testing/index.ts') },
      { find: /^paceline$/, replacement: at('./src/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 20_000,
  },
});
