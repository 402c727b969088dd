// `kms-pkcs11 evidence`: the commands that collect and check what an auditor asks for.
import { commandGroup } from "../subcommands.js";

/** Adds the group `evidence`. */
export const addEvidenceCommand = commandGroup("evidence", [
  ["collect", async () => (await import("./collect.js")).addEvidenceCollectCommand],
  ["verify", async () => (await import("./verify.js")).addEvidenceVerifyCommand],
]);
