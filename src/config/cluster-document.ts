// The document of one cluster: the common settings with those of the cluster, as if the plugin served that cluster alone.
// So every check of a document applies to every cluster, and commands need no other settings.
import { basename, dirname, join } from "node:path";
import { valueAt, type SettingPath } from "./problems.js";

/** One entry of `clusters`. */
export interface ClusterDocument {
  /** As it is written, which may be invalid. */
  readonly name: unknown;
  readonly index: number;
  /** Without `clusters`. */
  readonly document: unknown;
  /** The state directory of all clusters, as it is written. */
  readonly commonStateDir: unknown;
  /** Returns where a setting of that document is written in the whole document. */
  readonly written: (at: SettingPath) => SettingPath;
}

type Mapping = Readonly<Record<string, unknown>>;

/** Sections that each cluster has for itself. */
export const OWN_SECTIONS = ["socket", "keys", "failover"] as const;
/** Settings of common sections that a cluster may replace. */
const REPLACED: readonly SettingPath[] = [
  ["cache", "entries"],
  ["audit", "file"],
];
/** Paths in common sections; each cluster's has its name in front. */
const NAMED_PATHS: readonly SettingPath[] = [
  ["audit", "file"],
  ["audit", "keyFile"],
  ["audit", "ocsf", "file"],
];

/** Returns the document of each cluster; undefined if the document has no `clusters`. */
export function clusterDocuments(document: unknown): readonly ClusterDocument[] | undefined {
  if (!isMapping(document) || !Array.isArray(document["clusters"])) return undefined;
  const { clusters, ...common } = document;
  const entries: readonly unknown[] = clusters as readonly unknown[];
  return entries.map((entry, index) => {
    const given = isMapping(entry) ? entry : {};
    const { name } = given;
    return {
      name,
      index,
      commonStateDir: common["stateDir"],
      document: merged(common, given, typeof name === "string" ? name : `cluster-${index}`),
      written: (at) => (isOwn(at, given) ? ["clusters", index, ...at] : at),
    };
  });
}

function merged(common: Mapping, given: Mapping, name: string): unknown {
  const isCommon = (section: string): boolean => !OWN_SECTIONS.some((own) => own === section);
  const own = OWN_SECTIONS.map((section) => [section, given[section]] as const);
  let result: unknown = Object.fromEntries([
    ...Object.entries(common).filter(([section]) => isCommon(section)),
    ...own.filter(([, value]) => value !== undefined),
  ]);
  for (const at of NAMED_PATHS) {
    const path = valueAt(common, at);
    if (typeof path === "string") result = withValue(result, at, named(path, name));
  }
  for (const at of REPLACED) {
    const value = valueAt(given, at);
    if (value !== undefined) result = withValue(result, at, value);
  }
  const { stateDir } = common;
  return typeof stateDir === "string"
    ? withValue(result, ["stateDir"], join(stateDir, "clusters", name))
    : result;
}

/** Returns a path with the cluster's name in front of the file name. */
function named(path: string, name: string): string {
  return join(dirname(path), `${name}.${basename(path)}`);
}

/** Returns whether the cluster's entry has the setting, rather than the common document. */
function isOwn(at: SettingPath, given: Mapping): boolean {
  const [section] = at;
  if (section === "name" || OWN_SECTIONS.some((own) => own === section)) return true;
  return REPLACED.some(
    (path) => path.every((step, index) => at[index] === step) && valueAt(given, path) !== undefined,
  );
}

/** Returns a copy with a value at a path; a section on the path that is not a mapping stays, for the schema to report. */
function withValue(mapping: unknown, [step, ...rest]: SettingPath, value: unknown): unknown {
  if (step === undefined) return value;
  if (mapping !== undefined && !isMapping(mapping)) return mapping;
  return { ...mapping, [step]: withValue(valueAt(mapping, [step]), rest, value) };
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
