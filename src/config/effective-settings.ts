// The settings in force, for people: each with its value and where the value comes from, and all of them for the log.
// No PIN or password appears: only PIN sources do, and module parameters without the values that may be secrets.
import { describeRole } from "./login-role.js";
import { describePinSource } from "./pin-source.js";
import { formatPkcs11Uri } from "./pkcs11-uri.js";
import { showPath, valueAt, type SettingPath } from "./problems.js";
import { redactParameters } from "./redact.js";
import { OPTIONS_IN_ORDER, presetOf, settingPaths } from "./setting-rows.js";
import type { Configuration, Origin, Settings, TokenSettings } from "./settings.js";

/** Where the value of a setting comes from. Line and column count from 1. */
export type Source =
  | { readonly kind: "default" }
  | { readonly kind: "file"; readonly file: string; readonly line: number; readonly column: number }
  | { readonly kind: "flag"; readonly flag: string }
  | { readonly kind: "environment"; readonly variable: string };

export interface EffectiveSetting {
  /** Such as `hsm.requestTimeout` or `failover[0].uri`. */
  readonly setting: string;
  /** As it is written in a configuration, without secrets; null if there is none. */
  readonly value: unknown;
  readonly source: Source;
}

/** Returns every setting in the document's order. After each token's options follows `pin`, its PIN source. */
export function settingsInForce(configuration: Configuration): EffectiveSetting[] {
  const { settings, given, origin } = configuration;
  return settingPaths(settings.tokens.length - 1).flatMap((path) => {
    const setting = showPath(path);
    const token = settings.tokens[path[0] === "failover" ? 1 + Number(path[1]) : 0];
    const value = valueAt(given, path);
    const source = value === undefined ? DEFAULT : sourceAt(path, origin);
    const section = path.slice(0, -1);
    const row = { setting, value: value ?? presetAt(path) ?? null, source };
    if (token === undefined) return [row];
    switch (path.at(-1)) {
      case "uri":
        return [{ ...row, value: formatPkcs11Uri(token.uri) }];
      case "parameters":
        return [{ ...row, value: typeof value === "string" ? redactParameters(value) : null }];
      case "path":
        return [section.at(-1) === "module" ? moduleRow(row, token, section, origin) : row];
      case "keyFile":
        return [{ ...row, value: settings.audit?.keyFile ?? row.value }];
      case "unlock":
        return [row, pinRow(token, section, configuration)];
      default:
        return [row];
    }
  });
}

const DEFAULT: Source = { kind: "default" };

/** Settings that each cluster has, or derives from a common one. */
const OF_CLUSTER =
  /^(socket|keys|module\.path|pin$|stateDir$|failover|audit\.(file|keyFile|ocsf\.file)$|cache\.entries$)/;

/** Returns the settings of several clusters: the common ones, then those of each cluster. */
export function clusterSettingsInForce(configurations: readonly Configuration[]): EffectiveSetting[] {
  const [first] = configurations;
  const common = first === undefined ? [] : settingsInForce(first);
  const own = configurations.flatMap((configuration, index) => {
    const { name, requests } = configuration.settings.cluster ?? {};
    const at = (setting: string): string => `clusters[${index}].${setting}`;
    const source = (setting: string): Source => sourceAt(["clusters", index, setting], configuration.origin);
    return [
      { setting: at("name"), value: name ?? null, source: source("name") },
      { setting: at("requests"), value: requests ?? null, source: source("requests") },
      ...settingsInForce(configuration)
        .filter(({ setting }) => OF_CLUSTER.test(setting))
        .map((row) => ({ ...row, setting: at(row.setting) })),
    ];
  });
  return [...common.filter(({ setting }) => !OF_CLUSTER.test(setting)), ...own];
}

function presetAt(path: SettingPath): unknown {
  const name = showPath(path).replace(/\[\d+\]/, "[]");
  const option = OPTIONS_IN_ORDER.find((one) => one.path === name);
  return option && presetOf(option.schema);
}

function sourceAt(path: SettingPath, { flags, file, written }: Origin): Source {
  const flag = flags.get(showPath(path));
  if (flag !== undefined) return { kind: "flag", flag };
  return file === undefined
    ? DEFAULT
    : { kind: "file", file: file.path, ...file.positions(written?.(path) ?? path) };
}

/** The library may be named in the URI instead, and a URI from the command line takes precedence. */
function moduleRow(
  row: EffectiveSetting,
  { uri, modulePath }: TokenSettings,
  section: SettingPath,
  origin: Origin,
): EffectiveSetting {
  const isFromUri =
    row.value !== modulePath || (row.source.kind === "default" && uri.modulePath !== undefined);
  return { ...row, value: modulePath, source: isFromUri ? sourceAt(uriPath(section), origin) : row.source };
}

function uriPath(section: SettingPath): SettingPath {
  return section[0] === "failover" ? [...section.slice(0, 2), "uri"] : ["keys", "uri"];
}

function pinRow(
  { pin, uri }: TokenSettings,
  section: SettingPath,
  { given, origin }: Configuration,
): EffectiveSetting {
  const row = { setting: showPath(section), value: describePinSource(pin) };
  if (pin.kind === "stdin") return { ...row, source: { kind: "flag", flag: "--pin-stdin" } };
  if (pin.kind === "none") return { ...row, source: DEFAULT };
  const [name] = Object.keys(valueAt(given, section) ?? {});
  if (uri.pinSource !== undefined) return { ...row, source: sourceAt(uriPath(section), origin) };
  if (name !== undefined) return { ...row, source: sourceAt([...section, name], origin) };
  return { ...row, source: { kind: "environment", variable: "CREDENTIALS_DIRECTORY" } };
}

/** Returns the settings for the log, without secrets. Undefined members are for JSON.stringify to omit. */
export function effectiveSettings(settings: Settings): object {
  const { socket, tokens } = settings;
  return {
    ...settings,
    socket: socket && { ...socket, mode: socket.mode.toString(8).padStart(4, "0") },
    tokens: tokens.map(({ uri, modulePath, moduleEntry, moduleParameters, pin, userType, admin }) => ({
      uri: formatPkcs11Uri(uri),
      modulePath,
      moduleEntry,
      moduleParameters: moduleParameters === undefined ? undefined : redactParameters(moduleParameters),
      pin: describePinSource(pin),
      role: describeRole(userType),
      admin: admin && { pin: describePinSource(admin.pin), role: describeRole(admin.userType) },
    })),
    warnings: undefined,
  };
}
