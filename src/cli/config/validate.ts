// `kms-pkcs11 config validate`: whether `serve` accepts the configuration, without opening anything that it names.
import type { Command } from "commander";
import { warningsOf } from "../../config/load.js";
import { locateConfiguration } from "../../config/location.js";
import { KmsError } from "../../errors.js";
import { EXIT_USAGE } from "../exit-code.js";
import { reportFailure } from "../failure.js";
import { formatJson, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { addServeOptions, configurationsFrom, type SettingsOptions } from "../settings-options.js";
import type { ConfigValidateOutput } from "../output-schema/config.js";

/** Adds `config validate`. */
export function addConfigValidateCommand(config: Command, terminal: Terminal): void {
  addServeOptions(config.command("validate"))
    .description(
      "check the configuration for 'serve' without opening what it names; exit 0 if it is valid, 2 if not",
    )
    .addHelpText(
      "after",
      `
Each problem names file, line and column. 'kms-pkcs11 check' also examines the paths, the token and the PIN.

Example:
  kms-pkcs11 config validate --config /etc/kms-pkcs11/config.yaml`,
    )
    .action((_local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const result = validate(options);
      if (options.output === "json") {
        terminal.out(formatJson(result));
        if (!result.valid) reportFailure(invalid(result), options.output, terminal);
      } else {
        for (const problem of result.problems) terminal.err(problem);
        const rows = result.warnings.map((warning) => ["warn", warning]);
        const file = result.file ?? "the flags";
        if (result.valid) terminal.out(formatTable(["", ""], [["ok", file], ...rows]).trimStart());
      }
      if (!result.valid) process.exitCode = EXIT_USAGE;
    });
}

function invalid({ problems }: ConfigValidateOutput): KmsError {
  return new KmsError("CONFIG_INVALID", problems.join("\n"));
}

function validate(options: SettingsOptions): ConfigValidateOutput {
  const file = locateConfiguration(options, process.env)?.path ?? null;
  try {
    const warnings = warningsOf(configurationsFrom(options, true));
    return { file, valid: true, problems: [], warnings };
  } catch (error) {
    if (!(error instanceof KmsError) || error.code !== "CONFIG_INVALID") throw error;
    return { file, valid: false, problems: error.message.split("\n"), warnings: [] };
  }
}
