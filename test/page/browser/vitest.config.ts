// The configuration of the tests in a browser, which only scripts/page-test runs.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/page/browser/**/*.browser.ts"],
    globalSetup: ["test/setup/prerequisites.ts", "test/setup/kek-token.ts"],
    pool: "forks",
    testTimeout: 60_000,
    hookTimeout: 90_000,
  },
});
