// `kms-pkcs11 config`: the commands about the configuration file. None of them needs the HSM.
import { commandGroup } from "../subcommands.js";

/** Adds the group `config`. */
export const addConfigCommand = commandGroup("config", [
  ["validate", async () => (await import("./validate.js")).addConfigValidateCommand],
  ["print", async () => (await import("./print.js")).addConfigPrintCommand],
  ["schema", async () => (await import("./schema.js")).addConfigSchemaCommand],
]);
