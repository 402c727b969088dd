// Which socket a command calls: the one that an option or the configuration names.
import { accessSync, constants } from "node:fs";
import type { Command } from "commander";
import { CONFIGURATION_VARIABLE, DEFAULT_CONFIGURATION, namedConfiguration } from "../config/location.js";
import { formatSocketAddress } from "../config/socket-address.js";
import type { OutputFormat } from "./output.js";

/** Where a plugin listens if nothing says otherwise. */
const USUAL_SOCKET = "/run/kms-pkcs11/kms.sock";

export interface PluginSocketOptions {
  readonly socket?: string | undefined;
  readonly config?: string | undefined;
  readonly cluster?: string | undefined;
  readonly output: OutputFormat;
}

/** Adds --socket, and the options for the configuration that names it otherwise. */
export function addPluginSocketOptions(command: Command): Command {
  return command
    .option(
      "--socket <path>",
      `socket of the plugin: a path or unix:///path (default: that of the configuration, or ${USUAL_SOCKET})`,
    )
    .option(
      "-c, --config <file>",
      `configuration file that names the socket; without it: $${CONFIGURATION_VARIABLE}, or ${DEFAULT_CONFIGURATION} if this user may read it`,
    )
    .option("--cluster <name>", "cluster whose socket is called, if the configuration names several");
}

/** Returns the socket, as KmsClient takes it. @throws KmsError CONFIG_INVALID */
export async function pluginSocket(options: PluginSocketOptions): Promise<string> {
  if (options.socket !== undefined) return options.socket;
  const isNamed = namedConfiguration(options.config, process.env) !== undefined;
  if (!isNamed && !isReadable(DEFAULT_CONFIGURATION)) return USUAL_SOCKET;
  const { settingsFrom } = await import("./settings-options.js");
  const { config, cluster, output } = options;
  const named = {
    ...(config !== undefined && { config }),
    ...(cluster !== undefined && { cluster }),
    output,
  };
  const { socket } = settingsFrom(named, false);
  return socket === undefined ? USUAL_SOCKET : formatSocketAddress(socket);
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
