// The replay of token reports on tokens that the fault module emulates.

import { describe, expect, it } from "vitest";

import type { TokenReport } from "../../../src/admin/token-report/report.js";
import { behaviourIn, rulesOf } from "../../support/token-report-replay.js";
import { tokenUri } from "../../support/token.js";
import { checkedCommand } from "../checked-command.js";
import { emulated } from "./emulated-token.js";

/** Restrictions that tokens have together; RSA keys take long to make, so none has them. */
const RESTRICTIONS = [
  [],
  ["no-mechanism 0x1087,0x1082,0x1081", "login-per-load", "read-only-attributes", "refuse-ro-sessions"],
  ["store-at-load", "gcm-iv appended16"],
  ["gcm-iv written", "session-limit 5", "id-limit 4"],
  ["C_GenerateKey rv 0x54", "session-limit 3"],
  ["C_Decrypt rv 0x40 failed", "C_UnwrapKey rv 0x30 failed", "report-attribute 0x163 0"],
  ["refuse-attribute 0x170 0x12", "refuse-attribute 0x10C 0x13 0", "refuse-ro-sessions 0xB5"],
  ["refuse-attribute 0x1 0x13 0", "refuse-attribute 0x161 0x12", "unreadable-attribute 0x100 0x6"],
  ["login-per-session", "token-flags 0x404 0"],
  ["lacks C_GetSessionInfo C_GetInfo C_GetSlotInfo"],
  ["label-limit 32", "unreadable-attribute 0x163 0x12", "gcm-iv prepended-own", "ignore-in-searches 0x102"],
];

describe("a token report", () => {
  it.each(RESTRICTIONS)("gives the same findings when it is replayed: %s %s %s %s", async (...rules) => {
    const fault = emulated();
    const report = async (lines: readonly string[]): Promise<TokenReport> => {
      fault.set("no-mechanism 0x0", ...lines);
      const args = ["check", "--token-report", "--key", tokenUri(fault, "kms-kek"), "-o", "json"];
      return JSON.parse((await checkedCommand(args, fault.env)).stdout) as TokenReport;
    };
    const reported = await report(rules);
    expect(behaviourIn(await report(rulesOf(reported)))).toEqual(behaviourIn(reported));
    expect(reported.leftBehind).toEqual([]);
    fault.remove();
  });
});

it("a token report says that a library admits one process at a time", async () => {
  const fault = emulated();
  fault.set(`exclusive ${fault.path("alone")} 0x5`, "no-mechanism 0x0");
  const args = ["check", "--token-report", "--key", tokenUri(fault, "kms-kek"), "-o", "json"];
  const { code, stdout } = await checkedCommand(args, fault.env);
  const { exclusive, findings, leftBehind } = JSON.parse(stdout) as TokenReport;
  expect([code, exclusive, leftBehind]).toEqual([0, true, []]);
  const detail = expect.stringContaining("set hsm.hosts to 1") as string;
  expect(findings).toContainEqual({ verdict: "warn", subject: "processes", detail });
  fault.remove();
});
