// `kms-pkcs11 custody`: the commands for a PIN that several custodians hold together.
import { commandGroup } from "../subcommands.js";

/** Adds the group `custody`. */
export const addCustodyCommand = commandGroup("custody", [
  ["split", async () => (await import("./split.js")).addCustodySplitCommand],
  ["test", async () => (await import("./test.js")).addCustodyTestCommand],
  ["renew", async () => (await import("./renew.js")).addCustodyRenewCommand],
  ["combine", async () => (await import("./combine.js")).addCustodyCombineCommand],
]);
