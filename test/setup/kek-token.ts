// Makes one SoftHSM token with a KEK before a run. Tests that need a token with any KEK copy its folder, which costs them
// neither a token host nor a command.

import type { TestProject } from "vitest/node";

import { createSoftHsm } from "../support/softhsm.js";
import { openToken } from "../support/token-hsm.js";

declare module "vitest" {
  interface ProvidedContext {
    /** The folder with the configuration and the token, and the key_id of its KEK. */
    readonly kekToken: { readonly folder: string; readonly keyId: string };
  }
}

/** Makes the token for the project's tests. Returns the function that removes it after the run. */
export async function setup(project: TestProject): Promise<() => void> {
  const softHsm = createSoftHsm();
  const { hsm } = openToken(softHsm, { requestTimeoutMs: 60_000, startTimeoutMs: 60_000 });
  const label = "kms-kek@20260101T000000Z";
  const { keyId } = await hsm.generate({ label, ckaId: "0a".repeat(16), kind: "aes" });
  await hsm.stop(500);
  project.provide("kekToken", { folder: softHsm.folder, keyId });
  return () => {
    softHsm.remove();
  };
}
