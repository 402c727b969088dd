// `kms-pkcs11 config print`: every setting in force, without secrets, and where its value comes from.
import type { Command } from "commander";
import { settingsInForce, type Source } from "../../config/effective-settings.js";
import { locateConfiguration } from "../../config/location.js";
import { formatJson, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { addServeOptions, configurationFrom, type SettingsOptions } from "../settings-options.js";
import type { ConfigPrintOutput } from "../output-schema/config.js";

/** Adds `config print`. */
export function addConfigPrintCommand(config: Command, terminal: Terminal): void {
  addServeOptions(config.command("print"))
    .description("print every setting in force, without secrets, and where its value comes from")
    .addHelpText(
      "after",
      `
SOURCE is the file with the line, the flag, the environment variable, or 'default'. The row 'pin' names the PIN source; the
PIN is not read.

Example:
  kms-pkcs11 config print --config /etc/kms-pkcs11/config.yaml --log-level debug
  kms-pkcs11 config print -o json`,
    )
    .action((_local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const location = locateConfiguration(options, process.env);
      const configuration = configurationFrom(options, false);
      const rows = settingsInForce(configuration);
      const { warnings } = configuration.settings;
      if (options.output === "json") {
        terminal.out(
          formatJson({ file: location ?? null, settings: rows, warnings } satisfies ConfigPrintOutput),
        );
        return;
      }
      if (location !== undefined) terminal.out(`${location.path} (${location.source})\n`);
      const cells = rows.map(({ setting, value, source }) => [setting, show(value), describe(source)]);
      terminal.out(formatTable(["SETTING", "VALUE", "SOURCE"], cells));
      for (const warning of warnings) terminal.err(`warning: ${warning}`);
    });
}

function show(value: unknown): string {
  if (value === null) return "none";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function describe(source: Source): string {
  switch (source.kind) {
    case "default":
      return "default";
    case "file":
      return `${source.file}:${source.line}`;
    case "flag":
      return source.flag;
    case "environment":
      return `$${source.variable}`;
  }
}
