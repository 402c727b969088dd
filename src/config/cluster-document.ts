// The document of one cluster: the common settings with those of the cluster, as if the plugin served that cluster alone.
// So every check of a document applies to every cluster, and commands need no other settings.
import { basename, dirname, join } from "node:path";
import type { SettingPath } from "./problems.js";

/** One entry of `clusters`. */
export interface ClusterDocument {
  /** As it is written, which may be invalid. */
  readonly name: unknown;
  readonly index: number;
  /** Without `clusters`. */
  readonly document: Mapping;
  /** The state directory of all clusters, as it is written. */
  readonly commonStateDir: unknown;
  /** Returns where a setting of that document is written in the whole document. */
  readonly written: (at: SettingPath) => SettingPath;
}

type Mapping = Readonly<Record<string, unknown>>;

/** Sections that each cluster has for itself. */
export const OWN_SECTIONS = ["socket", "keys", "failover"] as const;
/** Settings of common sections that a cluster may replace. */
const REPLACED = [
  ["cache", "entries"],
  ["audit", "file"],
] as const;
/** Paths in common sections; each cluster's has its name in front. */
const NAMED_PATHS = [
  ["audit", "file"],
  ["audit", "keyFile"],
] as const;

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

function merged(common: Mapping, given: Mapping, name: string): Mapping {
  const isCommon = (section: string): boolean => !OWN_SECTIONS.some((own) => own === section);
  const result: Record<string, unknown> = Object.fromEntries(
    Object.entries(common).filter(([section]) => isCommon(section)),
  );
  for (const section of OWN_SECTIONS) if (given[section] !== undefined) result[section] = given[section];
  for (const [section, setting] of NAMED_PATHS) {
    const path = valueIn(common[section], setting);
    if (typeof path === "string") result[section] = withValue(result[section], setting, named(path, name));
  }
  const ocsf = valueIn(valueIn(common["audit"], "ocsf"), "file");
  if (typeof ocsf === "string") {
    result["audit"] = withValue(result["audit"], "ocsf", { file: named(ocsf, name) });
  }
  for (const [section, setting] of REPLACED) {
    const value = valueIn(given[section], setting);
    if (value !== undefined) result[section] = withValue(result[section], setting, value);
  }
  const { stateDir } = common;
  if (typeof stateDir === "string") result["stateDir"] = join(stateDir, "clusters", name);
  return result;
}

/** Returns a path with the cluster's name in front of the file name. */
function named(path: string, name: string): string {
  return join(dirname(path), `${name}.${basename(path)}`);
}

function isOwn(at: SettingPath, given: Mapping): boolean {
  const [section, setting] = at;
  if (OWN_SECTIONS.some((own) => own === section)) return true;
  return REPLACED.some(
    ([own, replaced]) =>
      own === section && replaced === setting && valueIn(given[own], replaced) !== undefined,
  );
}

function withValue(section: unknown, setting: string, value: unknown): unknown {
  return section === undefined || isMapping(section) ? { ...section, [setting]: value } : section;
}

function valueIn(section: unknown, setting: string): unknown {
  return isMapping(section) ? section[setting] : undefined;
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
