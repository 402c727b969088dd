// What the operator sees if a command's event cannot be written to the audit log.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, expect, it } from "vitest";

import { insistOnOperatorEvent, recordOperatorEvent } from "../../src/admin/operator-audit.js";
import type { Settings } from "../../src/config/settings.js";
import { silentOperator } from "../support/operator.js";
import { makeFolder } from "../support/token.js";

const folder = makeFolder("operator-audit");
const notFolder = join(folder, "file");
writeFileSync(notFolder, "");
const settings = {
  audit: {
    file: join(notFolder, "logs", "audit.log"),
    keyFile: join(notFolder, "logs", "audit.key"),
    required: true,
  },
} as unknown as Settings;
const event = { operation: "keys create", outcome: "ok" };
const reason = "(ENOTDIR: a part of the path is not a folder)";

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("an optional audit log that cannot be written is a warning with path and reason", async () => {
  const lines: string[] = [];
  await recordOperatorEvent(settings, silentOperator(lines), event);
  expect(lines).toEqual([expect.stringContaining(reason)]);
});

it("a required audit log that cannot be written is an error with path and reason", async () => {
  await expect(insistOnOperatorEvent(settings, silentOperator([]), event)).rejects.toThrow(reason);
});
