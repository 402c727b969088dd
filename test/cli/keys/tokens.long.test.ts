// The key commands with two tokens in one configuration, the second of which is a clone made by other means: what is
// done on which token, how differences are reported, and how a repeated command finishes what failed.

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { FaultModule } from "../../support/fault-module.js";
import { runCommand } from "../../support/command.js";
import { PluginProcess } from "../../support/plugin-process.js";
import { createSoftHsm, makePlainKey, type SoftHsm } from "../../support/softhsm.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { tokenUri } from "../../support/token.js";

const FIRST = "pkcs11:token=kms;object=kms-kek";
const SECOND = "pkcs11:token=other;object=kms-kek";
const LOST = "--i-understand-data-is-lost";

let token: SoftHsm;
let clone: SoftHsmClone;
/** In front of the second token. */
let fault: FaultModule;
/** Never started; only its configuration file is used. */
let both: PluginProcess;

beforeEach(() => {
  token = createSoftHsm();
  clone = new SoftHsmClone(token, "other");
  fault = new FaultModule(clone);
  both = new PluginProcess(token, { failover: [{ uri: tokenUri(fault, "kms-kek") }] });
});

afterEach(() => {
  both.remove();
  fault.remove();
  token.remove();
});

interface Told {
  readonly code: number | null;
  readonly stderr: string;
  readonly said: Record<string, unknown>;
}

async function keys(...args: string[]): Promise<Told> {
  const command = ["keys", ...args, "--config", both.configFile, "-o", "json"];
  const { code, stdout, stderr } = await runCommand(command, token.env);
  return { code, stderr, said: stdout === "" ? {} : (JSON.parse(stdout) as Record<string, unknown>) };
}

const createdKeyId = ({ said }: Told): string => (said["created"] as { keyId: string }).keyId;
const listed = async (): Promise<Record<string, unknown>[]> =>
  (await keys("list")).said["keys"] as Record<string, unknown>[];

describe("keys create and rotate", () => {
  it("'keys create' makes the key on the first token, explains cloning, finds the clone", async () => {
    fault.set("C_OpenSession rv 0x30");
    expect(await keys("create")).toMatchObject({
      code: 3,
      stderr: expect.stringContaining(`${SECOND}: `) as string,
      said: {},
    });
    fault.clear();
    const created = await keys("create");
    expect(created).toMatchObject({
      code: 0,
      stderr: "",
      said: {
        tokens: [{ kind: "token", name: SECOND, state: "missing" }],
        next: expect.stringContaining(`not on ${SECOND} yet; clone it there`) as string,
      },
    });
    const first = createdKeyId(created);
    const apart = await keys("list");
    expect(apart).toMatchObject({
      code: 1,
      said: {
        keys: [{ keyId: first, state: "active", tokens: [FIRST] }],
        differences: [expect.stringMatching(`active KEK .*${first}.* missing on ${SECOND}; clone it there`)],
      },
    });
    clone.sync();
    expect(await keys("list")).toMatchObject({
      code: 0,
      said: { keys: [{ keyId: first, tokens: [FIRST, SECOND] }], differences: [], problem: null },
    });
    const rotated = await keys("rotate", "--activate-in", "1h");
    expect(rotated).toMatchObject({
      code: 0,
      said: { from: first, tokens: [{ token: SECOND, state: "missing" }] },
    });
    const waited = await keys("rotate", "--activate-in", "2h", "--dry-run");
    expect(waited).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/standby KEK .* missing on .*other/) as string,
      said: { created: null },
    });
  });

  it("'keys list' reports another key under the same label and CKA_ID", async () => {
    const { said: made } = await keys("create");
    const { keyId, label } = made["created"] as { keyId: string; label: string };
    const [ckaId = ""] = keyId.split(".");
    makePlainKey(clone, label, ckaId);
    const { code, said } = await keys("list");
    expect([code, said["problem"]]).toEqual([1, null]);
    expect(said["keys"]).toMatchObject([
      { keyId, state: "active", tokens: [FIRST] },
      {
        state: "refused",
        tokens: [SECOND],
        findings: expect.arrayContaining([expect.stringContaining("not a clone")]) as string[],
      },
    ]);
    const [, impostor] = said["keys"] as { keyId: string }[];
    expect(await keys("destroy", impostor?.keyId ?? "", LOST, impostor?.keyId ?? "")).toMatchObject({
      code: 0,
      said: {
        tokens: [
          { token: FIRST, outcome: "not needed" },
          { token: SECOND, outcome: "done" },
        ],
      },
    });
    clone.sync();
    expect((await keys("list")).code).toBe(0);
  });
});

describe("keys destroy and adopt", () => {
  it("'keys destroy' acts on every token, reports a failure, and finishes when repeated", async () => {
    const first = createdKeyId(await keys("create"));
    const second = createdKeyId(await keys("rotate", "--activate-in", "1h"));
    clone.sync();
    expect(await keys("destroy", first, LOST, first)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("is the active KEK") as string,
    });
    fault.set("C_DestroyObject rv 0x54");
    expect(await keys("destroy", second, LOST, second)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(`on some tokens only; repeat the command .*${SECOND}: `) as string,
      said: {
        destroyed: { keyId: second, state: "standby" },
        tokens: [
          { token: FIRST, outcome: "done", error: null },
          { token: SECOND, outcome: "failed", error: expect.stringContaining("C_DestroyObject") as string },
        ],
      },
    });
    fault.clear();
    expect(await keys("destroy", second, LOST, second)).toMatchObject({
      code: 0,
      said: { tokens: [{ outcome: "not needed" }, { outcome: "done" }] },
    });
    expect(await keys("destroy", second, LOST, second)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("no token holds a KEK") as string,
    });
    expect(await keys("destroy", "@standby", LOST, second)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("@standby matches no KEK") as string,
    });
    for (const [what, ...more] of [
      ["foo"],
      [""],
      [second, LOST, "foo"],
      [second, "--every-node-has-left", "foo"],
    ]) {
      expect((await keys("destroy", what ?? "", ...more)).code).toBe(2);
    }
    expect(await listed()).toMatchObject([{ keyId: first, state: "active", tokens: [FIRST, SECOND] }]);
  });

  it("'keys adopt' gives one label on every token without changing the active KEK", async () => {
    makePlainKey(token, "kms-kek", "07");
    clone.sync();
    const [{ keyId: plain } = { keyId: "" }] = (await listed()) as { keyId: string }[];
    const next = createdKeyId(await keys("rotate", "--activate-in", "1h"));
    clone.sync();
    fault.set("C_SetAttributeValue rv 0x10", "C_CopyObject rv 0x54");
    const half = await keys("adopt", plain);
    expect(half).toMatchObject({ code: 1, said: { tokens: [{ outcome: "done" }, { outcome: "failed" }] } });
    fault.clear();
    const whole = await keys("adopt", plain);
    expect(whole).toMatchObject({
      code: 0,
      said: { tokens: [{ outcome: "not needed" }, { outcome: "done" }] },
    });
    expect(whole.said["adopted"]).toEqual(half.said["adopted"]);
    expect(await keys("adopt", "@active")).toMatchObject({
      code: 0,
      said: { adopted: half.said["adopted"], tokens: [{ outcome: "not needed" }, { outcome: "not needed" }] },
    });
    expect(await listed()).toMatchObject([
      { keyId: next, state: "standby", tokens: [FIRST, SECOND] },
      { keyId: plain, state: "active", tokens: [FIRST, SECOND] },
    ]);
  });
});
