// Which HSM the etcd commands open objects with. `--key` is etcdctl's here, the client's private key: the KEK's URI is
// `--kek`.
import type { Command } from "commander";
import type { Settings } from "../../config/settings.js";
import { addPinOption, settingsFrom, type SettingsOptions } from "../settings-options.js";

export interface KekOptions {
  readonly config?: string;
  readonly kek?: string;
  readonly moduleParams?: string;
  readonly stateDir?: string;
  readonly pinStdin?: true;
}

export function addKekOptions(command: Command): Command {
  const withKek = command
    .option("-c, --config <file>", "configuration file (kind PluginConfiguration): which HSM and KEK")
    .option("--kek <uri>", "PKCS#11 URI of the KEK; overrides keys.uri (--key is etcd's here)")
    .option("--module-params <string>", "string for C_Initialize; overrides module.parameters")
    .option("--state-dir <dir>", "folder for what must outlive a restart; overrides stateDir");
  return addPinOption(withKek);
}

/** @throws KmsError CONFIG_INVALID */
export function settingsOfKek({ config, kek, moduleParams, stateDir, pinStdin }: KekOptions): Settings {
  const options: SettingsOptions = {
    output: "table",
    ...(config !== undefined && { config }),
    ...(kek !== undefined && { key: kek }),
    ...(moduleParams !== undefined && { moduleParams }),
    ...(stateDir !== undefined && { stateDir }),
    ...(pinStdin !== undefined && { pinStdin }),
  };
  return settingsFrom(options, false);
}
