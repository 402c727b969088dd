// Loads the settings: the file, overridden by flags, checked as a whole. Reports all problems at once. With several
// clusters, each of them is checked as if the plugin served it alone, and then all of them together.
import { clusterDocuments, type ClusterDocument } from "./cluster-document.js";
import { chooseCluster } from "./cluster-choice.js";
import { checkClusters, readEntries } from "./clusters.js";
import { checkCombinations } from "./combinations.js";
import { readConfigurationFile } from "./file.js";
import { overlayFlags } from "./flags.js";
import { draftsOf, settingsOf } from "./from-document.js";
import { invalidLines } from "./invalid.js";
import { ofCluster } from "./node-address.js";
import { permissionWarning } from "./pin-source.js";
import { Problems, problemsOf, showPath, type SettingPath } from "./problems.js";
import { API_VERSION, documentSchema, KIND } from "./schema.js";
import type { Configuration, LoadRequest, Origin, Settings } from "./settings.js";
import { pinSourcesOf, resolveTokens, type TokenList, type TokenSettings } from "./tokens.js";
import { validParts } from "./valid-parts.js";

/** A file with more problems is probably not the intended one. */
const MAX_LINES = 100;

/**
 * Returns the settings from the file and the flags.
 * @throws KmsError CONFIG_INVALID, one line per problem:
 * "<flag, or file:line:column: path>: <what is wrong>; <what to do>"
 */
export function loadSettings(request: LoadRequest): Settings {
  return loadConfiguration(request).settings;
}

/**
 * Returns the settings together with what they were read from; of several clusters, those of the one in the request.
 * @throws KmsError CONFIG_INVALID as loadSettings, or which clusters there are
 */
export function loadConfiguration(request: LoadRequest): Configuration {
  return chooseCluster(loadConfigurations(request), request.cluster);
}

/** Returns the settings of every cluster; without clusters, those of the plugin. @throws KmsError CONFIG_INVALID */
export function loadConfigurations(request: LoadRequest): readonly Configuration[] {
  const { configPath, flags } = request;
  const file = configPath === undefined ? undefined : readConfigurationFile(configPath);
  const whole = file?.document ?? { apiVersion: API_VERSION, kind: KIND, keys: {} };
  const warnings = file?.warnings ?? [];
  const source = file && { file: { path: configPath ?? "", positions: file.positions } };
  const common = { ...flags, key: undefined, socket: undefined };
  const withCommon = overlayFlags(whole, common);
  const clusters = clusterDocuments(withCommon.document);
  if (clusters === undefined) {
    const { document: given, names } = overlayFlags(whole, flags);
    const one = read(given, { flags: names, ...source }, warnings, request);
    return oneOrThrow([one], one.lines);
  }
  const origin: Origin = { flags: withCommon.names, ...source };
  const problems = new Problems();
  const entries = readEntries(withCommon.document, request, problems);
  const all = clusters.map((cluster) => {
    const isChosen = !request.serves && cluster.name === request.cluster;
    const one = readCluster(cluster, origin, warnings, isChosen ? request : { ...request, flags: common });
    return withCluster(one, cluster, entries[cluster.index]?.requests ?? 1);
  });
  checkClusters(
    all.flatMap(({ configuration }) => configuration ?? []),
    problems,
  );
  const lines = [...problems.lines((at) => nameOf(at, origin)), ...all.flatMap((one) => one.lines)];
  return oneOrThrow(all, [...new Set(lines)]);
}

/** Returns the warnings about all settings, each once. */
export function warningsOf(configurations: readonly Configuration[]): string[] {
  return [...new Set(configurations.flatMap(({ settings }) => settings.warnings))];
}

interface Read {
  /** Undefined if there are problems. */
  readonly configuration: Configuration | undefined;
  readonly lines: readonly string[];
}

function oneOrThrow(all: readonly Read[], lines: readonly string[]): readonly Configuration[] {
  const configurations = all.flatMap(({ configuration }) => configuration ?? []);
  if (lines.length > 0 || configurations.length < all.length) throw invalidLines(lines, MAX_LINES);
  return configurations;
}

function readCluster(
  { document, written }: ClusterDocument,
  common: Origin,
  warnings: readonly string[],
  request: LoadRequest,
): Read {
  const { key, socket } = request.flags;
  const { document: given, names } = overlayFlags(document, { key, socket });
  return read(given, { ...common, flags: new Map([...common.flags, ...names]), written }, warnings, request);
}

function withCluster(
  { configuration, lines }: Read,
  { name, commonStateDir }: ClusterDocument,
  requests: number,
): Read {
  if (configuration === undefined || typeof name !== "string") return { configuration: undefined, lines };
  const cluster = { name, requests, ...(typeof commonStateDir === "string" && { commonStateDir }) };
  const nodes = configuration.settings.nodes.map((node) => ofCluster(node, name));
  const settings = { ...configuration.settings, cluster, nodes };
  return { configuration: { ...configuration, settings }, lines };
}

/** Reads a document that concerns one cluster. */
function read(given: unknown, origin: Origin, fileWarnings: readonly string[], request: LoadRequest): Read {
  const { flags, env, serves, pinFromStdin = false } = request;
  const problems = new Problems();
  const parsed = documentSchema.safeParse(given);
  if (!parsed.success) problems.addAll(parsed.error.issues.flatMap((issue) => problemsOf(issue, given)));
  const draft = validParts(given);
  checkCombinations(draft, serves, problems);
  const context = { env, uriFromFlag: flags.key !== undefined, pinFromStdin, problems };
  const tokens = resolveTokens(draftsOf(draft), context);
  const lines = problems.lines((at) => nameOf(at, origin));
  if (!parsed.success || !hasOne(tokens) || lines.length > 0) return { configuration: undefined, lines };
  const warnings = [
    ...fileWarnings,
    ...tokens.flatMap(pinSourcesOf).flatMap((pin) => permissionWarning(pin) ?? []),
  ];
  const settings = settingsOf(parsed.data, tokens, [...new Set(warnings)]);
  return { configuration: { settings, document: parsed.data, given, origin }, lines };
}

function nameOf(at: SettingPath, { flags, file, written }: Origin): string {
  const flag = flags.get(showPath(at));
  const place = written?.(at) ?? at;
  const dotted = showPath(place);
  if (flag !== undefined || file === undefined) return flag ?? dotted;
  const { line, column } = file.positions(place);
  return `${file.path}:${line}:${column}: ${dotted}`;
}

function hasOne(tokens: readonly TokenSettings[]): tokens is TokenList {
  return tokens.length > 0;
}
