// `kms-pkcs11 etcd`: the commands that read stored objects without an API server, or have one rewrite them.
import { commandGroup } from "../subcommands.js";

/** Adds the group `etcd`. */
export const addEtcdCommand = commandGroup("etcd", [
  ["usage", async () => (await import("./usage.js")).addEtcdUsageCommand],
  ["verify", async () => (await import("./verify.js")).addEtcdVerifyCommand],
  ["get", async () => (await import("./get.js")).addEtcdGetCommand],
  ["migrate", async () => (await import("./migrate.js")).addEtcdMigrateCommand],
  ["recover", async () => (await import("./recover.js")).addEtcdRecoverCommand],
]);
