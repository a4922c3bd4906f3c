import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The file with all that it imports from beside it: chunks that only other entries need are not a user's of this one. */
function withImports(file, found = new Set()) {
  if (found.has(file)) return found;
  found.add(file);
  for (const [, other] of readFileSync(file, 'utf8').matchAll(/from '\.\/(chunk-[^']+)'/g)) {
    withImports(join('dist', other), found);
  }
  return found;
}

export default [
  { name: 'paceline (brotli)', path: [...withImports('dist/index.js')], limit: '92 kB' },
  { name: 'paceline/redis (brotli)', path: [...withImports('dist/redis.js')], limit: '62 kB' },
];
