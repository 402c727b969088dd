// The tests, quick and long (*.long.test.ts), without the end-to-end tests, which have a configuration of their own. Forks,
// not threads: SoftHSM reads its configuration with C getenv, which a worker thread's process.env never reaches. Files that
// do not disturb each other share processes.

import { configDefaults, defineConfig, type TestUserConfig } from "vitest/config";

import { LONGEST, longestFirst, SHARED } from "./test/setup/longest-first.js";
import { filesThatShareAProcess } from "./test/setup/process-sharing.js";

const shared = filesThatShareAProcess(import.meta.dirname);

/** Set by `scripts/test` without arguments. */
const leftOut = process.env["QUICK_TESTS_ONLY"] === undefined ? [] : ["test/**/*.long.test.ts"];

/** The settings of both projects. */
const common = {
  pool: "forks" as const,
  // The built program is loaded as it is: transforming it would cost more than running it.
  server: { deps: { external: [new RegExp(`^${import.meta.dirname}/dist/`)] } },
  // A limit for what hangs, not a measure of speed: a busy machine must never fail a test.
  testTimeout: 150_000,
  hookTimeout: 150_000,
} satisfies TestUserConfig;

export default defineConfig({
  test: {
    globalSetup: ["test/setup/temporary-folder.ts", "test/setup/prerequisites.ts", "test/setup/kek-token.ts"],
    projects: [
      {
        test: {
          ...common,
          name: "alone",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**", "test/e2e-node/**", "**/node_modules/**", ...shared, ...leftOut],
        },
      },
      { test: { ...common, name: SHARED, include: shared, exclude: leftOut, isolate: false } },
    ],
    // Set by `scripts/test --watch PATTERN`: many tests start the build, which vitest does not see them import.
    forceRerunTriggers: [
      ...configDefaults.forceRerunTriggers,
      ...(process.env["RERUN_AFTER_BUILD"] === undefined ? [] : ["**/dist/**/*.js"]),
    ],
    teardownTimeout: 30_000,
    // Most tests wait for processes and instants most of the time, so twice as many files run as CI has cores.
    maxWorkers: 4,
    sequence: { sequencer: longestFirst(LONGEST.tests) },
  },
});
