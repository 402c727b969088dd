// The order in which test files start: those that take longest first, so that no worker waits for one of them at the end of
// the run. Vitest itself knows durations only from an earlier run in the same checkout.

import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take more than 20 s. Those that mostly wait alternate with those that start many processes. */
export const LONGEST = [
  "test/hsm/hosts/hangs.test.ts",
  "test/compose/rotation.test.ts",
  "test/hsm/token-faults.test.ts",
  "test/bench/cases.test.ts",
  "test/compose/load-time-store.test.ts",
  "test/hsm/hosts/hung-starts.test.ts",
  "test/hsm/login/pin.test.ts",
  "test/server/plugin.test.ts",
  "test/cli/keys/destroy-clocks.test.ts",
  "test/hsm/hosts/recovery.test.ts",
  "test/hsm/shared-partition.test.ts",
  "test/cli/keys/tokens.test.ts",
  "test/hsm/altered-results.test.ts",
] as const;

/** The project of the files that share processes. Vitest keeps a process only if the next file is of the same project. */
export const SHARED = "shared";

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rankOf = ({ moduleId, project }: TestSpecification): number => {
      if (project.name === SHARED) return LONGEST.length + 1;
      const rank = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}`));
      return rank === -1 ? LONGEST.length : rank;
    };
    return (await super.sort(files)).toSorted((one, other) => rankOf(one) - rankOf(other));
  }
}
