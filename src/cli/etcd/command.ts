// `kms-pkcs11 etcd`: the commands that read what API servers have stored, without them.
import type { Command } from "commander";
import { addEtcdGetCommand } from "./get.js";
import { addEtcdMigrateCommand } from "./migrate.js";
import { addEtcdUsageCommand } from "./usage.js";
import { addEtcdVerifyCommand } from "./verify.js";
import type { Terminal } from "../output.js";

export function addEtcdCommand(program: Command, terminal: Terminal): void {
  const etcd = program
    .command("etcd")
    .description(
      "read stored objects in etcd or a snapshot of it: which key protects what, and whether it opens",
    );
  addEtcdUsageCommand(etcd, terminal);
  addEtcdVerifyCommand(etcd, terminal);
  addEtcdGetCommand(etcd, terminal);
  addEtcdMigrateCommand(etcd, terminal);
}
