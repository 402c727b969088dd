// The options that commands share: the configuration file and the options that override it.
import type { Command } from "commander";
import { MECHANISM_SETTINGS } from "../config/schema.js";
import { DEFAULT_CONFIGURATION, CONFIGURATION_VARIABLE, locateConfiguration } from "../config/location.js";
import { loadConfiguration, loadConfigurations } from "../config/load.js";
import type { Configuration, LoadRequest, Settings } from "../config/settings.js";
import { asAdministrator } from "../config/tokens.js";
import type { OutputFormat } from "./output.js";

export interface SettingsOptions {
  readonly config?: string;
  readonly cluster?: string;
  readonly key?: string;
  readonly moduleParams?: string;
  readonly mechanism?: string;
  readonly stateDir?: string;
  readonly pinStdin?: true;
  readonly as?: string;
  readonly socket?: string;
  readonly mode?: string;
  readonly http?: string;
  readonly logLevel?: string;
  readonly output: OutputFormat;
}

/** Returns the help of --config. @param keyFlag the flag that names a KEK without a file */
export function configHelp(keyFlag = "--key"): string {
  return `configuration file (kind PluginConfiguration); without it and ${keyFlag}: $${CONFIGURATION_VARIABLE}, or ${DEFAULT_CONFIGURATION}`;
}

/** Adds the options of commands that open a token: the KEK, its token and the PIN source. */
export function addKeyOptions(command: Command): Command {
  return addPinOption(addKekOptions(command));
}

/** Adds the options of commands that log in: --pin-stdin, which replaces the configured PIN source, and --as. */
export function addPinOption(command: Command): Command {
  return addAsOption(
    command.option(
      "--pin-stdin",
      "read the PIN from standard input; for several tokens, one line for all or one line each",
    ),
  );
}

/** Adds --as. */
export function addAsOption(command: Command): Command {
  return command.option(
    "--as <user>",
    "for root: user whom the HSM's library acts as, a name or a number (default: the owner of the state directory)",
  );
}

/** Adds the options that select the KEK, its token and the state directory. */
export function addKekOptions(command: Command): Command {
  return addClusterOption(addFileOptions(command));
}

/** Adds --cluster, for commands that concern one of several clusters. */
export function addClusterOption(command: Command): Command {
  return command.option(
    "--cluster <name>",
    "cluster that the command concerns, if the configuration names several",
  );
}

/** Adds the configuration file and the options that override its KEK, library and state directory. */
function addFileOptions(command: Command): Command {
  return command
    .option("-c, --config <file>", configHelp())
    .option("--key <uri>", "PKCS#11 URI of the KEK; overrides keys.uri")
    .option(
      "--module-params <string>",
      "string for C_Initialize, for libraries that need one; overrides module.parameters",
    )
    .option("--state-dir <dir>", "state directory; overrides stateDir");
}

/** Adds --mechanism, for commands that create a KEK or use it. */
export function addMechanismOption(command: Command): Command {
  return command.option("--mechanism <name>", `${MECHANISM_SETTINGS.join(", ")}; overrides mechanism`);
}

/** Adds the options of `serve` and of commands that check its configuration. */
export function addServeOptions(command: Command): Command {
  addFileOptions(command)
    .option("--socket <path>", "unix socket to serve on; overrides socket.path")
    .option("--mode <mode>", "direct or local-kek; overrides mode");
  return addMechanismOption(command)
    .option("--http <address>", "loopback address and port, or off; overrides http.address")
    .option("--log-level <level>", "debug, info, warn or error; overrides log.level");
}

/** Returns the settings from the file and the options. @throws KmsError CONFIG_INVALID */
export function settingsFrom(options: SettingsOptions, serves: boolean): Settings {
  return configurationFrom(options, serves).settings;
}

/** Returns the settings together with what they were read from. @throws KmsError CONFIG_INVALID */
export function configurationFrom(options: SettingsOptions, serves: boolean): Configuration {
  const configuration = loadConfiguration(requestFrom(options, serves));
  const { settings } = configuration;
  return {
    ...configuration,
    settings: options.as === undefined ? settings : { ...settings, actAs: options.as },
  };
}

/** Returns the settings of every cluster, or the plugin's only ones. @throws KmsError CONFIG_INVALID */
export function configurationsFrom(options: SettingsOptions, serves: boolean): readonly Configuration[] {
  return loadConfigurations(requestFrom(options, serves));
}

function requestFrom(options: SettingsOptions, serves: boolean): LoadRequest {
  const { key, moduleParams, mechanism, stateDir, socket, mode, http, logLevel, cluster } = options;
  const location = locateConfiguration(options, process.env);
  return {
    ...(location !== undefined && { configPath: location.path }),
    pinFromStdin: options.pinStdin === true,
    flags: { key, moduleParams, mechanism, stateDir, socket, mode, http, logLevel },
    env: process.env,
    serves,
    cluster,
  };
}

/**
 * Returns the settings with the administrator's login, for commands that change KEKs.
 * @throws KmsError CONFIG_INVALID
 */
export function administratorSettings(options: SettingsOptions): Settings {
  const settings = settingsFrom(options, false);
  return { ...settings, tokens: asAdministrator(settings.tokens) };
}
