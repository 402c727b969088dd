// The configuration of the measurement of many clusters: one long test, which only scripts/clusters runs.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/clusters/**/*.measure.ts"],
    globalSetup: ["test/setup/temporary-folder.ts", "test/setup/prerequisites.ts", "test/setup/kek-token.ts"],
    pool: "forks",
    testTimeout: 0,
    hookTimeout: 0,
  },
});
