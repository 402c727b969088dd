// `kms-pkcs11 keys`: the commands for the generations of the KEK.
import type { Command } from "commander";
import { addKeysAdoptCommand } from "./adopt.js";
import { addKeysCreateCommand } from "./create.js";
import { addKeysDestroyCommand } from "./destroy.js";
import { addKeysListCommand } from "./list.js";
import { addKeysRotateCommand } from "./rotate.js";
import type { Terminal } from "../output.js";

export function addKeysCommand(program: Command, terminal: Terminal): void {
  const keys = program
    .command("keys")
    .description("create, list, rotate, adopt and destroy the generations of the KEK on the token");
  addKeysCreateCommand(keys, terminal);
  addKeysListCommand(keys, terminal);
  addKeysRotateCommand(keys, terminal);
  addKeysAdoptCommand(keys, terminal);
  addKeysDestroyCommand(keys, terminal);
}
