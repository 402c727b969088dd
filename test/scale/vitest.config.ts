// The great etcd has a configuration of its own: one long test, run by scripts/scale only.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/scale/**/*.scale.ts"],
    globalSetup: ["test/setup/prerequisites.ts"],
    pool: "forks",
    // It ends by itself; how long that takes depends on the number of objects.
    testTimeout: 0,
    hookTimeout: 0,
  },
});
