// The end-to-end suite: one file at a time, each in its own process, with time limits for real servers. Run by
// scripts/e2e, or with `npx vitest run --config test/e2e/vitest.config.ts`.

import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: fileURLToPath(new URL(".", import.meta.url)),
    // scripts/e2e --controllers runs the tests that need kube-controller-manager, which takes minutes more to build.
    include: process.env["E2E_CONTROLLERS"] === undefined ? ["*.test.ts"] : ["controllers/*.test.ts"],
    // The folder of the run, which E2E_KEEP keeps, is outside the temporary folder.
    globalSetup: ["./global-setup.ts", "../setup/temporary-folder.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 300_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
  },
});
