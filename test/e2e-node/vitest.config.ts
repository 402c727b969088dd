// The suite on real nodes: each file has a node of its own, and its cases run in their order, since they share it. Run by
// scripts/e2e-node, as root.

import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

import { LONGEST, longestFirst } from "../setup/longest-first.js";

export default defineConfig({
  test: {
    root: fileURLToPath(new URL(".", import.meta.url)),
    include: ["*.test.ts"],
    // The folder of the run, which E2E_KEEP keeps, is outside the temporary folder.
    globalSetup: ["./global-setup.ts", "../setup/temporary-folder.ts"],
    setupFiles: ["./harness/end-with-runner.ts"],
    pool: "forks",
    maxWorkers: 3,
    sequence: { sequencer: longestFirst(LONGEST.nodes) },
    // An HSM is away for two minutes, and a control plane takes a minute to start.
    testTimeout: 600_000,
    hookTimeout: 300_000,
    teardownTimeout: 60_000,
  },
});
