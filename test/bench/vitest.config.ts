// The configuration of the benchmark, which only scripts/bench runs: one measurement after another.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/bench/**/*.bench.ts"],
    globalSetup: ["test/setup/temporary-folder.ts", "test/setup/prerequisites.ts", "test/setup/kek-token.ts"],
    pool: "forks",
    fileParallelism: false,
    // Measurements end by themselves; these only bound a run that hangs.
    testTimeout: 1_800_000,
    hookTimeout: 120_000,
  },
});
