// The life cycle on a real token, run by scripts/test-tokens only: its token is installed first.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/tokens/**/*.tokens.ts"],
    pool: "forks",
    testTimeout: 180_000,
    hookTimeout: 120_000,
    // Each step relies on the ones before it.
    bail: 1,
  },
});
