// `kms-pkcs11 keys`: the commands for the generations of the KEK.
import type { Command } from "commander";
import { addKeysCreateCommand } from "./keys-create.js";
import { addKeysListCommand } from "./keys-list.js";
import type { Terminal } from "./output.js";

export function addKeysCommand(program: Command, terminal: Terminal): void {
  const keys = program.command("keys").description("create and list the generations of the KEK on the token");
  addKeysCreateCommand(keys, terminal);
  addKeysListCommand(keys, terminal);
}
