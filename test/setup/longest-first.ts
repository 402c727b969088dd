// The order in which test files start: those that take longest first, so that no worker waits for one of them at the end of
// the run. Vitest itself knows durations only from an earlier run in the same checkout.

import { BaseSequencer, type TestSequencerConstructor, type TestSpecification } from "vitest/node";

/** The files that take longest, by suite. Those that mostly wait alternate with those that start many processes. */
export const LONGEST = {
  tests: [
    "test/hsm/hosts/hangs.long.test.ts",
    "test/compose/rotation.long.test.ts",
    "test/hsm/token-faults.long.test.ts",
    "test/bench/cases.long.test.ts",
    "test/compose/load-time-store.long.test.ts",
    "test/hsm/hosts/hung-starts.long.test.ts",
    "test/hsm/login/pin.long.test.ts",
    "test/compose/local-kek.test.ts",
    "test/cli/keys/destroy-clocks.long.test.ts",
    "test/hsm/hosts/recovery.long.test.ts",
    "test/hsm/shared-partition.long.test.ts",
    "test/cli/keys/tokens.long.test.ts",
    "test/hsm/altered-results.long.test.ts",
  ],
  e2e: [
    "test/e2e/hsm-outage.test.ts",
    "test/e2e/rotation-run.test.ts",
    "test/e2e/clocks.test.ts",
    "test/e2e/adoption.test.ts",
    "test/e2e/rotation.test.ts",
    "test/e2e/unreadable-objects.test.ts",
    "test/e2e/three-apiservers.test.ts",
    "test/e2e/drill.test.ts",
    "test/e2e/etcd-migrate.test.ts",
    "test/e2e/rotation-runbook.test.ts",
    "test/e2e/change-hsm.test.ts",
  ],
  nodes: [
    "test/e2e-node/power.test.ts",
    "test/e2e-node/kubeadm.test.ts",
    "test/e2e-node/systemd.test.ts",
    "test/e2e-node/several.test.ts",
  ],
  tokens: ["test/tokens/emulated/read-at-load.tokens.ts", "test/tokens/real.tokens.ts"],
} as const;

/** The project of the files that share processes. Vitest keeps a process only if the next file is of the same project. */
export const SHARED = "shared";

/**
 * Returns the class that puts these files first, in this order, and those of the project SHARED last.
 * @param longestProject the project whose files come before all others
 */
export function longestFirst(longest: readonly string[], longestProject?: string): TestSequencerConstructor {
  const rankOf = ({ moduleId, project }: TestSpecification): number => {
    if (project.name === longestProject) return -1;
    if (project.name === SHARED) return longest.length + 1;
    const rank = longest.findIndex((name) => moduleId.endsWith(`/${name}`));
    return rank === -1 ? longest.length : rank;
  };
  return class extends BaseSequencer {
    override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
      return (await super.sort(files)).toSorted((one, other) => rankOf(one) - rankOf(other));
    }
  };
}
