import { expect, it } from "vitest";

import { filesThatShareAProcess } from "./process-sharing.js";

it("a test file shares a process unless it, or what it imports, concerns the whole process", () => {
  const shared = filesThatShareAProcess(`${import.meta.dirname}/../..`);
  expect(shared).toContain("test/backoff.test.ts");
  // It starts token hosts through a module that it imports, and the other changes the clock.
  expect(shared).not.toContain("test/hsm/keys.test.ts");
  expect(shared).not.toContain("test/observability/logger.test.ts");
});
