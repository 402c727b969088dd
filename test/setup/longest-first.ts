// The order in which test files start: those that take longest first, so that no worker waits for one of them at the end of
// the run. Vitest itself knows durations only from an earlier run in the same checkout.

import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take more than 20 s. Those that mostly wait alternate with those that start many processes. */
export const LONGEST = [
  "test/hsm/hosts/hangs.long.test.ts",
  "test/compose/rotation.test.ts",
  "test/hsm/token-faults.long.test.ts",
  "test/bench/cases.long.test.ts",
  "test/compose/load-time-store.long.test.ts",
  "test/hsm/hosts/hung-starts.long.test.ts",
  "test/hsm/login/pin.long.test.ts",
  "test/server/plugin.test.ts",
  "test/cli/keys/destroy-clocks.long.test.ts",
  "test/hsm/hosts/recovery.long.test.ts",
  "test/hsm/shared-partition.long.test.ts",
  "test/cli/keys/tokens.long.test.ts",
  "test/hsm/altered-results.long.test.ts",
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
