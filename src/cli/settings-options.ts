// The options that commands share: where the configuration is and what overrides it.
import type { Command } from "commander";
import { loadSettings, type Settings } from "../config/settings.js";
import type { OutputFormat } from "./output.js";

export interface SettingsOptions {
  readonly config?: string;
  readonly key?: string;
  readonly moduleParams?: string;
  readonly mechanism?: string;
  readonly stateDir?: string;
  readonly pinStdin?: true;
  readonly socket?: string;
  readonly mode?: string;
  readonly http?: string;
  readonly logLevel?: string;
  readonly output: OutputFormat;
}

/** Options of the commands that open a token: which KEK on which token, and where the PIN comes from. */
export function addKeyOptions(command: Command): Command {
  return addPinOption(addKekOptions(command));
}

/** In place of the source that the URI or the file names. */
export function addPinOption(command: Command): Command {
  return command.option(
    "--pin-stdin",
    "read the token's PIN from standard input; several tokens: one line for all, or one for each",
  );
}

function addKekOptions(command: Command): Command {
  return command
    .option("-c, --config <file>", "configuration file (kind PluginConfiguration)")
    .option("--key <uri>", "PKCS#11 URI of the KEK; overrides keys.uri")
    .option(
      "--module-params <string>",
      "string for C_Initialize, for libraries that take one; overrides module.parameters",
    )
    .option("--state-dir <dir>", "folder for what must outlive a restart; overrides stateDir");
}

/** What a KEK has to perform, for the commands that make one and those that use it. */
export function addMechanismOption(command: Command): Command {
  return command.option(
    "--mechanism <name>",
    "auto, aes-gcm, hmac-kdf, aes-kwp or aes-cbc-hmac; overrides mechanism",
  );
}

/** Options of the commands that serve, or check what would be served. */
export function addServeOptions(command: Command): Command {
  addKekOptions(command)
    .option("--socket <path>", "unix socket to serve on; overrides socket.path")
    .option("--mode <mode>", "direct or local-kek; overrides mode");
  return addMechanismOption(command)
    .option("--http <address>", "loopback address and port, or off; overrides http.address")
    .option("--log-level <level>", "debug, info, warn or error; overrides log.level");
}

/** @throws KmsError CONFIG_INVALID */
export function settingsFrom(options: SettingsOptions, serves: boolean): Settings {
  const { config, key, moduleParams, mechanism, stateDir, socket, mode, http, logLevel } = options;
  return loadSettings({
    ...(config !== undefined && { configPath: config }),
    pinFromStdin: options.pinStdin === true,
    flags: {
      ...(key !== undefined && { key }),
      ...(moduleParams !== undefined && { moduleParams }),
      ...(mechanism !== undefined && { mechanism }),
      ...(stateDir !== undefined && { stateDir }),
      ...(socket !== undefined && { socket }),
      ...(mode !== undefined && { mode }),
      ...(http !== undefined && { http }),
      ...(logLevel !== undefined && { logLevel }),
    },
    env: process.env,
    serves,
  });
}
