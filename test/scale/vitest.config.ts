// The configuration of the large etcd: one long test, which only scripts/scale runs.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/scale/**/*.scale.ts"],
    globalSetup: ["test/setup/temporary-folder.ts", "test/setup/prerequisites.ts", "test/setup/kek-token.ts"],
    pool: "forks",
    // The test ends by itself; its duration depends on the number of objects.
    testTimeout: 0,
    hookTimeout: 0,
  },
});
