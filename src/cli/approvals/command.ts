// `kms-pkcs11 approvals`: the commands for policies and approvals.
import { commandGroup } from "../subcommands.js";

/** Adds the group `approvals`. */
export const addApprovalsCommand = commandGroup("approvals", [
  ["policy", async () => (await import("./policy.js")).addPolicyCommands],
  ["propose", async () => (await import("./propose.js")).addProposeCommand],
  ["sign", async () => (await import("./sign.js")).addSignCommand],
  ["show", async () => (await import("./show.js")).addShowCommand],
  ["deliver", async () => (await import("./deliver.js")).addDeliverCommand],
]);
