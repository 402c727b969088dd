// `kms-pkcs11 keys`: the commands for the generations of the KEK.
import { commandGroup } from "../subcommands.js";

/** Adds the group `keys`. */
export const addKeysCommand = commandGroup("keys", [
  ["create", async () => (await import("./create.js")).addKeysCreateCommand],
  ["list", async () => (await import("./list.js")).addKeysListCommand],
  ["rotate", async () => (await import("./rotate.js")).addKeysRotateCommand],
  ["adopt", async () => (await import("./adopt.js")).addKeysAdoptCommand],
  ["destroy", async () => (await import("./destroy.js")).addKeysDestroyCommand],
]);
