// The log lines of a long reading.

import { expect, it } from "vitest";

import { progressLog } from "../../../src/hsm/hosts/progress-log.js";
import { SILENT } from "../../support/fake-hsm.js";

it("a reading that takes long is reported every five seconds, a short one never", () => {
  let clock = 0;
  const lines: object[] = [];
  const log = { ...SILENT, info: (fields: object) => lines.push(fields) };
  const report = progressLog(log, () => clock);
  for (let seen = 0; seen < 120; seen++) {
    report({ seen, objects: 20_000 });
    clock += 100;
  }
  expect(lines).toEqual([
    { seen: 50, objects: 20_000 },
    { seen: 100, objects: 20_000 },
  ]);
});
