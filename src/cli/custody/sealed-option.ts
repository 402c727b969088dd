// Which sealed PIN a custody command means, and for which token.
import type { Command } from "commander";
import { formatPkcs11Uri } from "../../config/pkcs11-uri.js";
import type { Settings, TokenSettings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { settingsFrom, type SettingsOptions } from "../settings-options.js";

export interface SealedOptions extends SettingsOptions {
  readonly sealed?: string;
  readonly token?: string;
}

/** Adds --sealed and --token. */
export function addSealedOptions(command: Command): Command {
  return command
    .option("--sealed <file>", "the sealed PIN; default: pin.custody of the configuration")
    .option("--token <label>", "which token of a configuration with several; default: keys.uri");
}

/** Returns the token that --token names, or the preferred one. @throws KmsError CONFIG_INVALID */
export function chosenToken({ tokens }: Settings, label: string | undefined): TokenSettings {
  const found = tokens.find(({ uri }) => label === undefined || uri.token === label);
  if (found !== undefined) return found;
  throw new KmsError("CONFIG_INVALID", "--token: no token of the configuration has this label");
}

/** Returns the path of a token's sealed PIN. @throws KmsError CONFIG_INVALID */
export function sealedPathOf(token: TokenSettings, sealed: string | undefined): string {
  const configured = token.pin.kind === "unlock" ? token.pin.sealed : undefined;
  const path = sealed ?? configured;
  if (path !== undefined) return path;
  throw new KmsError(
    "CONFIG_INVALID",
    `${formatPkcs11Uri(token.uri)} has no pin.custody in the configuration; give --sealed`,
  );
}

/** Returns the path that --sealed gives; only without it a configuration is read. @throws KmsError CONFIG_INVALID */
export function sealedPath(options: SealedOptions): string {
  if (options.sealed !== undefined) return options.sealed;
  return sealedPathOf(chosenToken(settingsFrom(options, false), options.token), undefined);
}
