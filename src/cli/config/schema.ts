// `kms-pkcs11 config schema`: the JSON Schema of the configuration file.
import type { Command } from "commander";
import { configurationJsonSchema } from "../../config/json-schema.js";
import { formatJson, type Terminal } from "../output.js";

/** Adds `config schema`. */
export function addConfigSchemaCommand(config: Command, terminal: Terminal): void {
  config
    .command("schema")
    .description("print the JSON Schema of the configuration file, for editors and CI")
    .addHelpText(
      "after",
      `
An editor with a YAML language server then completes and checks the file that begins with
  # yaml-language-server: $schema=config.schema.json

Example:
  kms-pkcs11 config schema > /etc/kms-pkcs11/config.schema.json`,
    )
    .action(() => {
      terminal.out(formatJson(configurationJsonSchema()));
    });
}
