// The end-to-end suite: several files at a time, each in its own process, with time limits for real servers. Run by
// scripts/e2e, or with `npx vitest run --config test/e2e/vitest.config.ts`.

import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { LONGEST, longestFirst } from "../setup/longest-first.js";

export default defineConfig({
  test: {
    root: fileURLToPath(new URL(".", import.meta.url)),
    // scripts/e2e --controllers runs the tests that need kube-controller-manager, which takes minutes more to build.
    include: process.env["E2E_CONTROLLERS"] === undefined ? ["*.test.ts"] : ["controllers/*.test.ts"],
    // The folder of the run, which E2E_KEEP keeps, is outside the temporary folder.
    globalSetup: ["./global-setup.ts", "../setup/temporary-folder.ts"],
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: longestFirst(LONGEST.e2e) },
    testTimeout: 300_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
  },
});
