// The options for the HSM that decrypts objects in the etcd commands. `--key` is etcdctl's option for the client's
// private key here, so the KEK's URI is `--kek`.
import type { Command } from "commander";
import { locateConfiguration } from "../../config/location.js";
import type { Settings } from "../../config/settings.js";
import {
  addClusterOption,
  addPinOption,
  configHelp,
  settingsFrom,
  type SettingsOptions,
} from "../settings-options.js";

export interface KekOptions {
  readonly config?: string;
  readonly cluster?: string;
  readonly kek?: string;
  readonly moduleParams?: string;
  readonly stateDir?: string;
  readonly pinStdin?: true;
  readonly as?: string;
}

/** Adds the options of the KEK and of the PIN. */
export function addKekOptions(command: Command): Command {
  const withKek = command
    .option("-c, --config <file>", configHelp("--kek"))
    .option(
      "--kek <uri>",
      "PKCS#11 URI of the KEK; overrides keys.uri (here, --key is the key of etcd's client certificate)",
    )
    .option("--module-params <string>", "string for C_Initialize; overrides module.parameters")
    .option("--state-dir <dir>", "state directory; overrides stateDir");
  return addPinOption(addClusterOption(withKek));
}

/** Returns the settings from the file and the options. @throws KmsError CONFIG_INVALID */
export function settingsOfKek(given: KekOptions): Settings {
  const { config, cluster, kek, moduleParams, stateDir, pinStdin, as } = given;
  const location = locateConfiguration({ config, key: kek, keyFlag: "--kek" }, process.env);
  const options: SettingsOptions = {
    output: "table",
    ...(location !== undefined && { config: location.path }),
    ...(cluster !== undefined && { cluster }),
    ...(kek !== undefined && { key: kek }),
    ...(moduleParams !== undefined && { moduleParams }),
    ...(stateDir !== undefined && { stateDir }),
    ...(pinStdin !== undefined && { pinStdin }),
    ...(as !== undefined && { as }),
  };
  return settingsFrom(options, false);
}
