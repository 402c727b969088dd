// kube-apiserver's EncryptionConfiguration (apiserver.config.k8s.io/v1): which provider writes which resource, and
// which providers may read it. The rules are those of kube-apiserver's own loader (k8s.io/apiserver,
// encryptionconfig/config.go and validation_encryption.go).
import type { z } from "zod";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";
import { truncate } from "../untrusted-text.js";
import { groupWildcard } from "./encryption-resource.js";
import { encryptionSchema, type EncryptionProvider, type EncryptionRule } from "./encryption-schema.js";
import { parseConfiguration } from "./file.js";
import { invalid, invalidLines } from "./invalid.js";

export interface EncryptionConfiguration {
  readonly rules: readonly EncryptionRule[];
}

const MAX_BYTES = 1024 * 1024;
const MAX_LINES = 20;
const MAX_LINE = 500;

/**
 * Returns the rules of the file at `path`.
 * @throws KmsError CONFIG_INVALID, one line per problem; no line repeats a value from the file
 */
export function readEncryptionConfiguration(path: string): EncryptionConfiguration {
  let bytes: Buffer;
  try {
    bytes = readRegular(path, MAX_BYTES);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const code = codeOf(error);
    const what = `${path}: cannot be read (${code}); give the file of kube-apiserver's --encryption-provider-config`;
    throw invalid(what, error);
  }
  try {
    return parseEncryptionConfiguration(bytes, path);
  } finally {
    bytes.fill(0);
  }
}

/**
 * Returns the rules in `bytes`, the content of the file at `path`.
 * @throws KmsError CONFIG_INVALID, one line per problem; no line repeats a value from the file
 */
export function parseEncryptionConfiguration(bytes: Uint8Array, path: string): EncryptionConfiguration {
  const result = encryptionSchema.safeParse(withoutNulls(parseConfiguration(bytes, path, "kubernetes")));
  const lines = result.success ? conflictsOf(result.data.resources) : result.error.issues.map(lineOf);
  if (result.success && lines.length === 0) return { rules: result.data.resources };
  throw invalidLines(
    lines.map((line) => `${path}: ${truncate(line, MAX_LINE)}`),
    MAX_LINES,
  );
}

/** Returns the value without null members, which Go treats as missing. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const given = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(given.map(([name, member]) => [name, withoutNulls(member)]));
}

function lineOf({ path, message }: z.core.$ZodIssue): string {
  const steps = path.map((step) => (typeof step === "number" ? `[${step}]` : `.${String(step)}`));
  return `${steps.join("").replace(/^\./, "") || "document"}: ${message}`;
}

function repeated(names: readonly string[]): Set<string> {
  const seen = new Set<string>();
  return new Set(names.filter((name) => seen.size === seen.add(name).size));
}

/** Returns what kube-apiserver refuses although each entry is valid by itself. */
function conflictsOf(rules: readonly EncryptionRule[]): string[] {
  const earlier = new Set<string>();
  const names = new Set<string>();
  return rules.flatMap(({ resources, providers }) => {
    const conflicts = [
      ...resourceConflicts(resources, earlier),
      ...providers.flatMap((one) => (one.kind === "kms" ? [...nameConflicts(one, names)] : [])),
    ];
    for (const resource of resources) earlier.add(resource);
    return conflicts;
  });
}

/** @param earlier the resources of the rules before this one */
function* resourceConflicts(resources: readonly string[], earlier: ReadonlySet<string>): Generator<string> {
  const own = new Set(resources);
  const twice = repeated(resources);
  for (const one of own) {
    const wildcards = [groupWildcard(one), "*.*"];
    const mask = wildcards.find((rule) => earlier.has(rule));
    if (mask !== undefined) yield `${one} is masked by the earlier ${mask}; put it before ${mask}`;
    const wider = wildcards.find((rule) => rule !== one && own.has(rule));
    if (wider !== undefined) yield `${one} and ${wider} overlap in one rule; keep one of them`;
    if (twice.has(one)) yield `${one} is in the same rule twice; keep one`;
  }
}

/** Adds the provider's name to `names`. */
function* nameConflicts(
  { name, apiVersion, cacheSize }: EncryptionProvider & { kind: "kms" },
  names: Set<string>,
): Generator<string> {
  const isRepeated = names.has(name);
  names.add(name);
  if (apiVersion !== "v2") return;
  if (isRepeated) yield `the kms provider ${name} appears twice; give every entry its own name`;
  if (name.includes(":")) {
    yield `the kms provider ${name} has a colon in its name, which v2 does not allow; remove it`;
  }
  if (cacheSize !== undefined) {
    yield `the kms provider ${name} has a cachesize, which v2 does not support; remove it`;
  }
}

/**
 * Returns the providers of a resource, such as `secrets` or `deployments.apps`; the first one writes. Returns undefined
 * if no rule names the resource: it is then stored in clear.
 */
export function providersOfResource(
  { rules }: EncryptionConfiguration,
  resourceName: string,
): readonly EncryptionProvider[] | undefined {
  for (const name of [resourceName, groupWildcard(resourceName), "*.*"]) {
    const matching = rules.filter(({ resources }) => resources.includes(name));
    // If several rules give the same name, kube-apiserver concatenates their providers.
    if (matching.length > 0) return matching.flatMap(({ providers }) => providers);
  }
  return undefined;
}

/** Returns the prefix of every value that a provider writes to etcd; empty for identity. */
export function storedPrefix(one: EncryptionProvider): string {
  return readPrefixes(one)[0] ?? "";
}

/** Returns the prefixes of the values that a provider can read; the empty prefix stands for values in clear. */
export function readPrefixes(one: EncryptionProvider): string[] {
  if (one.kind === "identity") return [""];
  if (one.kind === "kms") return [`k8s:enc:kms:${one.apiVersion}:${one.name}:`];
  return one.keyNames.map((name) => `k8s:enc:${one.kind}:v1:${name}:`);
}
