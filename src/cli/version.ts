// `kms-pkcs11 version`: the versions that a bug report needs.
import type { Command } from "commander";
import { VERSION } from "../version.js";
import { formatJson, type OutputFormat, type Terminal } from "./output.js";
import { formatTable } from "./table.js";
import type { VersionOutput } from "./output-schema/plugin.js";

/** Adds `version`. */
export function addVersionCommand(program: Command, terminal: Terminal): void {
  program
    .command("version")
    .addHelpText("after", "\nExample:\n  kms-pkcs11 version --output json")
    .action((_local, command: Command) => {
      const { output } = command.optsWithGlobals<{ readonly output: OutputFormat }>();
      const { platform, arch, versions } = process;
      const facts = { version: VERSION, node: versions.node, openssl: versions.openssl, platform, arch };
      if (output === "json") terminal.out(formatJson(facts satisfies VersionOutput));
      else terminal.out(formatTable(["", ""], Object.entries(facts)).trimStart());
    });
}
