// The life cycle, and the replay of token reports, on tokens that the fault module emulates: `scripts/test-tokens emulated`.

import { describe, expect, it } from "vitest";

import type { TokenReport } from "../../src/admin/token-report/report.js";
import { FaultModule } from "../support/fault-module.js";
import { createSoftHsm, pkcs11Tool, type SoftHsm } from "../support/softhsm.js";
import { behaviourIn, rulesOf } from "../support/token-report-replay.js";
import { tokenUri } from "../support/token.js";
import { kmsPkcs11 } from "../support/plugin-process.js";
import { describeLifeCycle, type LifeCycleToken } from "./life-cycle.js";

/** SoftHSM behind the fault module with these rules. */
function emulated(...rules: string[]): FaultModule & { readonly softHsm: SoftHsm } {
  const softHsm = createSoftHsm();
  const fault = new FaultModule(softHsm);
  fault.set(...rules);
  const remove = fault.remove.bind(fault);
  return Object.assign(fault, {
    softHsm,
    remove: () => {
      remove();
      softHsm.remove();
    },
  });
}

/** A token that generates no secret keys and whose library reads its store only when it is loaded, as a TPM's does. */
function vendorMade(): LifeCycleToken {
  const fault = emulated("store-at-load", "C_GenerateKey rv 0x54");
  const { softHsm } = fault;
  const makeKek = (label: string): void => {
    const key = [
      "--keygen",
      "--key-type",
      "GENERIC:32",
      "--label",
      label,
      "--sensitive",
      "--private",
      "--usage-sign",
    ];
    pkcs11Tool(softHsm, ...key);
  };
  return Object.assign(fault, { makeKek, readAtLoad: true });
}

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
  ["label-limit 32", "unreadable-attribute 0x163 0x12", "gcm-iv prepended-own", "ignore-in-searches 0x102"],
];

describe("a token report", () => {
  it.each(RESTRICTIONS)("gives the same findings when it is replayed: %s %s %s %s", (...rules) => {
    const fault = emulated();
    const report = (lines: readonly string[]): TokenReport => {
      fault.set("no-mechanism 0x0", ...lines);
      const args = ["check", "--token-report", "--key", tokenUri(fault, "kms-kek"), "-o", "json"];
      return JSON.parse(kmsPkcs11(args, fault.env).stdout) as TokenReport;
    };
    const reported = report(rules);
    expect(behaviourIn(report(rulesOf(reported)))).toEqual(behaviourIn(reported));
    expect(reported.leftBehind).toEqual([]);
    fault.remove();
  });
});

it("a token report says that a library admits one process at a time", () => {
  const fault = emulated();
  fault.set(`exclusive ${fault.path("alone")} 0x5`, "no-mechanism 0x0");
  const args = ["check", "--token-report", "--key", tokenUri(fault, "kms-kek"), "-o", "json"];
  const { code, stdout } = kmsPkcs11(args, fault.env);
  const { exclusive, findings, leftBehind } = JSON.parse(stdout) as TokenReport;
  expect([code, exclusive, leftBehind]).toEqual([0, true, []]);
  const detail = expect.stringContaining("set hsm.hosts to 1") as string;
  expect(findings).toContainEqual({ verdict: "warn", subject: "processes", detail });
  fault.remove();
});

describeLifeCycle("a token that generates no secret keys and is read at load", vendorMade);
describeLifeCycle("a token with a login for each load of its library", () => emulated("login-per-load"));
describeLifeCycle("a token that offers RSA only", () => emulated("only-mechanisms 0x0,0x9,0xd,0x43"));
