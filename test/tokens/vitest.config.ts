// The life cycle on a real or an emulated token, run by scripts/test-tokens: it waits for reloads, which takes minutes.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/tokens/**/*.tokens.ts"],
    globalSetup: ["test/setup/temporary-folder.ts"],
    pool: "forks",
    testTimeout: 180_000,
    hookTimeout: 120_000,
    // Each step relies on the ones before it.
    bail: 1,
  },
});
