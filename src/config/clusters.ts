// Checks the clusters of a document together: names, sockets, files and KEKs that must not be shared. Each cluster by
// itself is checked as a document of its own.
import { OWN_SECTIONS } from "./cluster-document.js";
import { clustersSection } from "./clusters-schema.js";
import { tokenSelector, type UriTokenSelector } from "./pkcs11-uri.js";
import { problemsOf, valueAt, type Problems, type SettingPath } from "./problems.js";
import type { Document } from "./schema.js";
import type { Configuration, LoadRequest, Settings, TokenSettings } from "./settings.js";

/**
 * Returns the entries of `clusters`; empty if they have problems, which are added, as are those of settings that cannot
 * be common to clusters.
 */
export function readEntries(
  document: unknown,
  { flags, serves }: LoadRequest,
  problems: Problems,
): Document["clusters"] {
  const given = valueAt(document, ["clusters"]);
  const parsed = clustersSection.safeParse(given);
  for (const issue of parsed.error?.issues ?? []) {
    problems.addAll(problemsOf({ ...issue, path: ["clusters", ...issue.path] }, document));
  }
  if (Array.isArray(given) && given.length === 0) {
    problems.add({ at: ["clusters"], text: "is empty; name a cluster, or remove it" });
  }
  for (const section of OWN_SECTIONS) {
    if (valueAt(document, [section]) === undefined) continue;
    problems.add({ at: [section], text: `is not common to clusters; move it to clusters[].${section}` });
  }
  for (const name of serves ? (["key", "socket"] as const) : []) {
    if (flags[name] === undefined) continue;
    const setting = name === "key" ? "keys.uri" : "socket.path";
    problems.add({
      at: ["clusters"],
      text: `excludes --${name}, which concerns one cluster; set clusters[].${setting}`,
    });
  }
  return parsed.data ?? [];
}

/** Adds a problem for each name, socket, file, KEK or login that clusters must not share. */
export function checkClusters(clusters: readonly Configuration[], problems: Problems): void {
  clusters.forEach((one, index) => {
    const earlier = clusters.slice(0, index);
    for (const { at, shared, text } of RULES) {
      const other = earlier.find((before) => shared(one.settings, before.settings));
      if (other === undefined) continue;
      problems.add({ at: one.origin.written?.(at) ?? at, text: text(other.settings.cluster?.name ?? "") });
    }
  });
}

/** What two clusters must not have in common. */
interface Rule {
  readonly at: SettingPath;
  readonly shared: (one: Settings, other: Settings) => boolean;
  /** @param name of the other cluster */
  readonly text: (name: string) => string;
}

const RULES: readonly Rule[] = [
  {
    at: ["name"],
    shared: (one, other) => one.cluster?.name === other.cluster?.name,
    text: (name) => `is the name of another cluster, ${name}; give each its own`,
  },
  {
    at: ["socket", "path"],
    shared: (one, other) => one.socket !== undefined && one.socket.path === other.socket?.path,
    text: (name) => `is the socket of cluster ${name} too; give each its own`,
  },
  {
    at: ["audit", "file"],
    shared: (one, other) => one.audit !== undefined && one.audit.file === other.audit?.file,
    text: (name) => `is the audit log of cluster ${name} too; give each its own`,
  },
  {
    at: ["keys", "uri"],
    shared: (one, other) =>
      one.objectName === other.objectName && anyPair(one, other, (a, b) => mayBeSame(a, b)),
    text: (name) =>
      `may name the KEK of cluster ${name}, whose ciphertexts would then decrypt here; give object=NAME another name, or name two different tokens by the same attributes`,
  },
  {
    at: ["keys", "uri"],
    shared: (one, other) => anyPair(one, other, (a, b) => isSameToken(a, b) && pinOf(a) !== pinOf(b)),
    text: (name) => `has another PIN source than cluster ${name} for the same token; give one for both`,
  },
];

function anyPair(
  one: Settings,
  other: Settings,
  test: (a: TokenSettings, b: TokenSettings) => boolean,
): boolean {
  return one.tokens.some((a) => other.tokens.some((b) => test(a, b)));
}

/** Returns whether two URIs may select one token: no attribute tells them apart. */
function mayBeSame(one: TokenSettings, other: TokenSettings): boolean {
  if (one.modulePath !== other.modulePath) return false;
  const [a, b] = [tokenSelector(one.uri), tokenSelector(other.uri)];
  return (Object.keys(a) as (keyof UriTokenSelector)[]).every(
    (name) => b[name] === undefined || a[name] === b[name],
  );
}

function isSameToken(one: TokenSettings, other: TokenSettings): boolean {
  return tokenIdentity(one) === tokenIdentity(other);
}

/** Returns a text that is equal for URIs of clusters that share a token: its hosts, sessions and login. */
export function tokenIdentity(token: TokenSettings): string {
  const { uri, modulePath, moduleEntry, moduleParameters, userType } = token;
  return JSON.stringify([tokenSelector(uri), modulePath, moduleEntry, moduleParameters, userType]);
}

function pinOf({ pin }: TokenSettings): string {
  return JSON.stringify(pin);
}
