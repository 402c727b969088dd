// `scripts/test` leaves out the files *.long.test.ts, so what CI runs has to include them.

import { readFileSync } from "node:fs";

import { expect, it } from "vitest";

it("CI runs the long tests wherever it runs the test suite", () => {
  const commands = [".ci/run", ".github/workflows/ci.yml"].flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/(?:step|[[,]) ?(scripts\/test(?![\w-])(?: --?\w+| \d+)*)/g)].map(
      ([, command]) => command,
    ),
  );
  expect(commands).toEqual([
    "scripts/test --all",
    "scripts/test --all --node 22",
    "scripts/test --all --node 26",
  ]);
});
