#!/bin/sh
# Runs every example that ends by itself; each says with its exit code whether all went well.
set -eu
cd "$(dirname "$0")/.."
for example in quickstart wrap-existing-fetch sticky-session paginated-login-session compose-primitives playwright-lease own-block-detector escalate-on-block api-client-rate-limits redis-workers bullmq-workers sqlite-processes; do
  printf '\n-- %s\n' "$example"
  node "examples/$example/main.ts"
done
printf '\n-- unit-test-your-scraper\n'
node --test examples/unit-test-your-scraper/scraper.test.ts
