// `kms-pkcs11 config print`: every setting in force, without secrets, and where its value comes from.
import type { Command } from "commander";
import { chooseCluster } from "../../config/cluster-choice.js";
import {
  clusterSettingsInForce,
  settingsInForce,
  type EffectiveSetting,
  type Source,
} from "../../config/effective-settings.js";
import { warningsOf } from "../../config/load.js";
import { locateConfiguration } from "../../config/location.js";
import { formatJson, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import {
  addClusterOption,
  addServeOptions,
  configurationsFrom,
  type SettingsOptions,
} from "../settings-options.js";
import type { ConfigPrintOutput } from "../output-schema/config.js";

/** Adds `config print`. */
export function addConfigPrintCommand(config: Command, terminal: Terminal): void {
  addClusterOption(addServeOptions(config.command("print")))
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
      const { rows, warnings } = inForce(options);
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

/** Without --cluster, the settings of all clusters. */
function inForce(options: SettingsOptions): { rows: EffectiveSetting[]; warnings: readonly string[] } {
  const all = configurationsFrom(options, false);
  const [first] = all;
  const isOne = options.cluster !== undefined || first?.settings.cluster === undefined;
  const rows = isOne ? settingsInForce(chooseCluster(all, options.cluster)) : clusterSettingsInForce(all);
  return { rows, warnings: warningsOf(all) };
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
