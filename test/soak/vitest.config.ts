// The configuration of the soak: one long test, which only scripts/soak runs.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/soak/**/*.soak.ts"],
    globalSetup: ["test/setup/temporary-folder.ts", "test/setup/prerequisites.ts", "test/setup/kek-token.ts"],
    pool: "forks",
    // The soak ends by its own clock; these only bound a run that hangs.
    testTimeout: 0,
    hookTimeout: 60_000,
  },
});
