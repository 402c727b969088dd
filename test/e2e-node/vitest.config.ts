// The suite on real nodes: one file at a time, and its cases in their order, since they share a node. Run by
// scripts/e2e-node, as root.

import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: fileURLToPath(new URL(".", import.meta.url)),
    include: ["*.test.ts"],
    // The folder of the run, which E2E_KEEP keeps, is outside the temporary folder.
    globalSetup: ["./global-setup.ts", "../setup/temporary-folder.ts"],
    setupFiles: ["./harness/end-with-runner.ts"],
    pool: "forks",
    fileParallelism: false,
    // An HSM is away for two minutes, and a control plane takes a minute to start.
    testTimeout: 600_000,
    hookTimeout: 300_000,
    teardownTimeout: 60_000,
  },
});
