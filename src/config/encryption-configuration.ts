// kube-apiserver's EncryptionConfiguration (apiserver.config.k8s.io/v1): which provider writes which resource, and
// which may read it. The rules are those of kube-apiserver's own loader (k8s.io/apiserver, encryptionconfig/config.go
// and validation_encryption.go). Keys that stand in the file are checked for their length and not kept.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { parseConfiguration } from "./file.js";
import { parseGoDuration } from "./duration.js";
import { anyOf, encryptedResource } from "./encryption-resource.js";
import { socketOfEndpoint } from "./socket-address.js";

export type EncryptionProvider =
  | {
      readonly kind: "kms";
      readonly name: string;
      /** As it applies: v1 when the file says nothing. */
      readonly apiVersion: "v1" | "v2";
      readonly endpoint: string;
      readonly timeoutMs: number;
      readonly cacheSize: number | undefined;
    }
  | {
      readonly kind: "aescbc" | "aesgcm" | "secretbox";
      /** The first one writes. */
      readonly keyNames: readonly string[];
    }
  | { readonly kind: "identity" };

export interface EncryptionRule {
  /** As written: `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`. */
  readonly resources: readonly string[];
  /** The first one writes, all read. */
  readonly providers: readonly EncryptionProvider[];
}

export interface EncryptionConfiguration {
  readonly rules: readonly EncryptionRule[];
}

const DEFAULT_TIMEOUT = "3s";
const MAX_LINES = 20;
const MAX_LINE = 500;
const AES_KEY_BYTES = [16, 24, 32];
const SECRETBOX_KEY_BYTES = [32];

/** Accepts what Go's base64.StdEncoding accepts: padded, line breaks allowed; leftover bits are ignored. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

const keys = (lengths: readonly number[]) => {
  const hint = `give ${lengths.join(", ")} bytes in base64`;
  const secret = z.string().refine((text) => {
    const digits = text.replace(/[\r\n]/g, "");
    return BASE64.test(digits) && lengths.includes(Buffer.from(digits, "base64").length);
  }, hint);
  // The secret ends here: only its name goes on.
  const key = z.strictObject({ name: z.string().min(1), secret }).transform(({ name }) => name);
  return z.strictObject({ keys: z.array(key).min(1) });
};

const kms = z.strictObject({
  apiVersion: z.enum(["v1", "v2"], "give v2").default("v1"),
  name: z.string().min(1, "give the provider a name"),
  endpoint: z
    .string()
    .refine(
      (text) => socketOfEndpoint(text) !== undefined,
      "give a unix socket such as unix:///run/kms-pkcs11/kms.sock",
    ),
  timeout: z
    .string()
    .default(DEFAULT_TIMEOUT)
    .transform((text, context) => {
      const ms = parseGoDuration(text);
      if (ms !== undefined && ms > 0) return ms;
      context.addIssue("give a duration above 0, such as 3s");
      return z.NEVER;
    }),
  cachesize: z.int().optional(),
});

const provider = z
  .strictObject({
    kms: kms.optional(),
    aescbc: keys(AES_KEY_BYTES).optional(),
    aesgcm: keys(AES_KEY_BYTES).optional(),
    secretbox: keys(SECRETBOX_KEY_BYTES).optional(),
    identity: z.strictObject({}).optional(),
  })
  .transform((entry, context): EncryptionProvider => {
    const [only, ...more] = providersOf(entry);
    if (only !== undefined && more.length === 0) return only;
    context.addIssue("give exactly one of kms, aescbc, aesgcm, secretbox and identity in each entry");
    return z.NEVER;
  });

const schema = z.strictObject({
  apiVersion: z.literal("apiserver.config.k8s.io/v1", "give apiserver.config.k8s.io/v1"),
  kind: z.literal("EncryptionConfiguration", "give EncryptionConfiguration"),
  resources: z
    .array(
      z.strictObject({
        resources: z.array(encryptedResource).min(1, "give at least one resource"),
        providers: z.array(provider).min(1, "give at least one provider"),
      }),
    )
    .min(1, "give at least one rule"),
});

type ProviderEntry = Readonly<
  Partial<Record<"aescbc" | "aesgcm" | "secretbox", { keys: string[] } | undefined>>
> & {
  readonly kms?: z.output<typeof kms> | undefined;
  readonly identity?: object | undefined;
};

function providersOf({ kms: service, identity, ...keyed }: ProviderEntry): EncryptionProvider[] {
  const found: EncryptionProvider[] = [];
  if (service !== undefined) {
    const { apiVersion, name, endpoint, timeout, cachesize } = service;
    found.push({ kind: "kms", apiVersion, name, endpoint, timeoutMs: timeout, cacheSize: cachesize });
  }
  for (const kind of ["aescbc", "aesgcm", "secretbox"] as const) {
    const entry = keyed[kind];
    if (entry !== undefined) found.push({ kind, keyNames: entry.keys });
  }
  if (identity !== undefined) found.push({ kind: "identity" });
  return found;
}

/** @throws KmsError CONFIG_INVALID, one line a problem, none of which repeats a value of the file */
export function readEncryptionConfiguration(path: string): EncryptionConfiguration {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
    const what = `${path}: cannot be read (${code}); give kube-apiserver's --encryption-provider-config`;
    throw new KmsError("CONFIG_INVALID", what, error);
  }
  try {
    return parseEncryptionConfiguration(bytes, path);
  } finally {
    bytes.fill(0);
  }
}

/** @throws KmsError CONFIG_INVALID, one line a problem, none of which repeats a value of the file */
export function parseEncryptionConfiguration(bytes: Uint8Array, path: string): EncryptionConfiguration {
  const result = schema.safeParse(withoutNulls(parseConfiguration(bytes, path, "kubernetes")));
  const lines = result.success ? conflictsOf(result.data.resources) : result.error.issues.map(lineOf);
  if (result.success && lines.length === 0) return { rules: result.data.resources };
  const more = lines.length - MAX_LINES;
  const shown = more > 0 ? [...lines.slice(0, MAX_LINES), `and ${more} more problems`] : lines;
  const text = shown.map((line) => `${path}: ${line.slice(0, MAX_LINE)}`).join("\n");
  throw new KmsError("CONFIG_INVALID", text);
}

/** Go treats a null member as missing. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const given = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(given.map(([name, member]) => [name, withoutNulls(member)]));
}

function lineOf({ path, message }: z.core.$ZodIssue): string {
  const place = path.map((step) => (typeof step === "number" ? `[${step}]` : `.${String(step)}`));
  return `${place.join("").replace(/^\./, "") || "document"}: ${message}`;
}

function repeated(names: readonly string[]): Set<string> {
  const seen = new Set<string>();
  return new Set(names.filter((name) => seen.size === seen.add(name).size));
}

/** What kube-apiserver refuses although every single entry is right. */
function conflictsOf(rules: readonly EncryptionRule[]): string[] {
  const conflicts: string[] = [];
  const earlier = new Set<string>();
  const names = new Set<string>();
  for (const { resources, providers } of rules) {
    const own = new Set(resources);
    const twice = repeated(resources);
    for (const one of own) {
      const wildcards = [anyOf(one), "*.*"];
      const mask = wildcards.find((rule) => earlier.has(rule));
      if (mask !== undefined) conflicts.push(`${one} is masked by the earlier ${mask}; put it before that`);
      const wider = wildcards.find((rule) => rule !== one && own.has(rule));
      if (wider !== undefined) conflicts.push(`${one} and ${wider} overlap in one rule; keep one of them`);
      if (twice.has(one)) conflicts.push(`${one} is in the same rule twice; keep one`);
    }
    for (const one of resources) earlier.add(one);
    for (const one of providers) {
      if (one.kind !== "kms") continue;
      if (one.apiVersion === "v2" && names.has(one.name)) {
        conflicts.push(`the kms provider ${one.name} stands twice; give every entry a name of its own`);
      }
      names.add(one.name);
      if (one.apiVersion === "v2" && one.name.includes(":")) {
        conflicts.push(
          `the kms provider ${one.name} has a colon in its name, which v2 does not allow; remove it`,
        );
      }
      if (one.apiVersion === "v2" && one.cacheSize !== undefined) {
        conflicts.push(`the kms provider ${one.name} has a cachesize, which v2 does not know; remove it`);
      }
    }
  }
  return conflicts;
}

/**
 * The providers of a resource, such as `secrets` or `deployments.apps`; the first one writes. Undefined when no rule
 * names it: it is stored in clear.
 */
export function providersOfResource(
  { rules }: EncryptionConfiguration,
  resourceName: string,
): readonly EncryptionProvider[] | undefined {
  for (const name of [resourceName, anyOf(resourceName), "*.*"]) {
    const matching = rules.filter(({ resources }) => resources.includes(name));
    // Providers of several rules for one name add up in their order.
    if (matching.length > 0) return matching.flatMap(({ providers }) => providers);
  }
  return undefined;
}

/** What a provider puts before everything that it writes to etcd; empty for identity. */
export function storedPrefix(one: EncryptionProvider): string {
  return readPrefixes(one)[0] ?? "";
}

/** Of what a provider can read; the empty prefix stands for what is in clear. */
export function readPrefixes(one: EncryptionProvider): string[] {
  if (one.kind === "identity") return [""];
  if (one.kind === "kms") return [`k8s:enc:kms:${one.apiVersion}:${one.name}:`];
  return one.keyNames.map((name) => `k8s:enc:${one.kind}:v1:${name}:`);
}
