// Checks the clusters of a document together: names, sockets, files and KEKs that must not be shared. Each cluster by
// itself is checked as a document of its own.
import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { OWN_SECTIONS } from "./cluster-document.js";
import { clustersSection } from "./clusters-schema.js";
import { tokenSelector, type UriTokenSelector } from "./pkcs11-uri.js";
import { problemsOf, valueAt, type Problems, type SettingPath } from "./problems.js";
import type { Document } from "./schema.js";
import type { Configuration, LoadRequest, Settings, TokenSettings } from "./settings.js";

/**
 * Returns the entries of `clusters`, or none if they have problems. Adds these problems, and those of settings that cannot
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
  const all = clusters.map(({ settings, origin }) => ({ origin, ...claimsOf(settings) }));
  all.forEach((one, index) => {
    for (const { at, shared, text } of RULES) {
      const other = all.slice(0, index).find((before) => shared(one, before));
      if (other !== undefined) problems.add({ at: one.origin.written?.(at) ?? at, text: text(other.name) });
    }
  });
}

/** What a cluster claims for itself. Each pair of clusters is compared, so texts are made once. */
interface Claims {
  readonly name: string;
  readonly socket: string | undefined;
  /** The audit log and its copy in OCSF. */
  readonly auditFiles: readonly string[];
  readonly objectName: string;
  readonly tokens: readonly ClaimedToken[];
}

interface ClaimedToken {
  readonly modulePath: string;
  readonly selector: UriTokenSelector;
  readonly identity: string;
  readonly pin: string;
}

function claimsOf({ cluster, socket, audit, objectName, tokens }: Settings): Claims {
  return {
    name: cluster?.name ?? "",
    socket: socket && (socket.abstract ? `@${socket.path}` : placeOf(socket.path)),
    auditFiles: [audit?.file, audit?.sinks?.ocsf?.file].flatMap((file) =>
      file === undefined ? [] : placeOf(file),
    ),
    objectName,
    tokens: tokens.map((token) => ({
      modulePath: realPathOf(token.modulePath),
      selector: tokenSelector(token.uri),
      identity: tokenIdentity(token),
      pin: JSON.stringify(token.pin),
    })),
  };
}

/** What two clusters must not have in common. */
interface Rule {
  readonly at: SettingPath;
  readonly shared: (one: Claims, other: Claims) => boolean;
  /** @param name of the other cluster */
  readonly text: (name: string) => string;
}

const RULES: readonly Rule[] = [
  {
    at: ["name"],
    shared: (one, other) => one.name === other.name,
    text: (name) => `is the name of another cluster, ${name}; give each its own`,
  },
  {
    at: ["socket", "path"],
    shared: (one, other) => one.socket !== undefined && one.socket === other.socket,
    text: (name) => `is the socket of cluster ${name} too; give each its own`,
  },
  {
    at: ["audit", "file"],
    shared: (one, other) => one.auditFiles.some((file) => other.auditFiles.includes(file)),
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
    shared: (one, other) => anyPair(one, other, (a, b) => a.identity === b.identity && a.pin !== b.pin),
    text: (name) => `has another PIN source than cluster ${name} for the same token; give one for both`,
  },
];

/** Returns where a file is, or will be made: it may have several paths. */
function placeOf(path: string): string {
  const place = realPathOf(path);
  return place === resolve(path) ? join(realPathOf(dirname(path)), basename(path)) : place;
}

/** One library may have several paths; distributions install links to it. */
function realPathOf(path: string): string {
  try {
    return realpathSync.native(path);
  } catch {
    return resolve(path);
  }
}

function anyPair(one: Claims, other: Claims, test: (a: ClaimedToken, b: ClaimedToken) => boolean): boolean {
  return one.tokens.some((a) => other.tokens.some((b) => test(a, b)));
}

/** Returns whether two URIs may select one token: no attribute tells them apart. */
function mayBeSame({ modulePath, selector: a }: ClaimedToken, other: ClaimedToken): boolean {
  if (modulePath !== other.modulePath) return false;
  const b = other.selector;
  return (Object.keys(a) as (keyof UriTokenSelector)[]).every(
    (name) => b[name] === undefined || a[name] === b[name],
  );
}

/** Returns a text that is equal for URIs of clusters that share a token: its hosts, sessions and login. */
export function tokenIdentity(token: TokenSettings): string {
  const { uri, modulePath, moduleEntry, moduleParameters, userType } = token;
  return JSON.stringify([tokenSelector(uri), modulePath, moduleEntry, moduleParameters, userType]);
}
