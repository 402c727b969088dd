// The life cycle on real and emulated tokens, run by scripts/test-tokens, which names them in the variable TOKENS. Each token
// is a project.

import { defineConfig } from "vitest/config";

import { LONGEST, longestFirst } from "../setup/longest-first.js";

const tokens = (process.env["TOKENS"] ?? "emulated").split(" ");

export default defineConfig({
  test: {
    // Not inherited by the projects: each of them would make a temporary folder inside the others'.
    globalSetup: ["test/setup/temporary-folder.ts"],
    projects: tokens.map((name) => ({
      test: {
        name,
        include: [name === "emulated" ? "test/tokens/emulated/*.tokens.ts" : "test/tokens/real.tokens.ts"],
        env: { TOKEN: name },
        pool: "forks" as const,
        testTimeout: 180_000,
        hookTimeout: 120_000,
      },
    })),
    // A life cycle mostly waits for instants and reloads. Every token has its own folder, daemons and bus.
    maxWorkers: 4,
    sequence: { sequencer: longestFirst(LONGEST.tokens, "tpm2") },
  },
});
