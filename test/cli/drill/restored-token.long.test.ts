// A drill with a restored token that is slow, or that no longer encrypts.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DrillReport } from "../../../src/evidence/drill-report.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { runCommand } from "../../support/command.js";
import { DrillStage, saveSecrets, secretKey } from "../../support/drill-stage.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import { newSeed, sealedObject } from "../../support/stored-secrets.js";
import { waitFor } from "../../support/wait.js";

/** The token does not encrypt under AES-GCM and AES-KWP. */
const DECRYPT_ONLY = "decrypt-only 0x1087,0x210a,0x210b";

const kms = usePlugin({}, { token: { kek: true, faults: [] } });
let stage: DrillStage;

beforeAll(async () => {
  const { label, pin, pinFile, env, folder } = kms.token;
  const { modulePath } = kms.fault;
  stage = new DrillStage({ label, pin, pinFile, env, folder, modulePath, remove: () => undefined });
  const seed = await newSeed(kms.plugin.socket);
  const object = sealedObject(seed, "/x", "x");
  // Its key comes first.
  const damaged = { ...object, encryptedDekSource: Buffer.from(object.encryptedDekSource).reverse() };
  await saveSecrets([seed], stage.snapshot, [
    ["/registry/secrets/a/damaged", formatStoredObject(damaged)],
    [secretKey(0, 999), formatStoredObject(object)],
  ]);
});

afterAll(() => {
  stage.remove();
});

async function drill(): Promise<DrillReport> {
  await runCommand(stage.args(), { ...stage.env, PATH: "/none" });
  return stage.report() as DrillReport;
}

const isPluginStarting = (): boolean =>
  readdirSync(stage.temporary).some((name) => existsSync(join(stage.temporary, name, "plugin")));

const outcomeOf = ({ steps }: DrillReport, step: string): string | undefined =>
  steps.find((one) => one.step === step)?.outcome;

it("a drill passes although the token takes longer to log in than an unlock waits", async () => {
  const running = drill();
  await waitFor(isPluginStarting, { what: "the folder of the private plugin", timeoutMs: 60_000 });
  kms.fault.set("C_Login sleep 16000", "log C_Login");
  const report = await running;
  expect(outcomeOf(report, "plugin"), JSON.stringify(report.steps)).toBe("passed");
  expect(kms.fault.log().map(({ ms }) => ms > 15_000)).toContain(true);
});

describe("without encryption", () => {
  const heldKek = (proven: boolean, detail: string): object => ({
    found: true,
    proven,
    detail: expect.stringContaining(detail) as string,
  });

  beforeAll(() => {
    stage.configure({ hsm: { startTimeout: "10s" } });
  });

  it("a KEK that may only decrypt is proven by a DEK seed that the snapshot holds", async () => {
    kms.fault.set(DECRYPT_ONLY);
    const report = await drill();
    expect(report.keks).toMatchObject([heldKek(true, "decrypts a stored DEK seed and does not encrypt")]);
    expect(outcomeOf(report, "keks")).toBe("passed");
  });

  it("a KEK that neither encrypts nor decrypts is not proven", async () => {
    kms.fault.set(DECRYPT_ONLY, "C_Decrypt rv 0x40");
    const report = await drill();
    expect(report.keks).toMatchObject([heldKek(false, "does not decrypt a stored DEK seed")]);
    expect(outcomeOf(report, "keks")).toBe("failed");
  });
});
