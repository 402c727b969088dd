// The schema of kube-apiserver's EncryptionConfiguration (apiserver.config.k8s.io/v1). Keys in the file are checked for
// their length and not kept.
import { z } from "zod";
import { parseGoDuration } from "./duration.js";
import { encryptedResource } from "./encryption-resource.js";
import { socketOfEndpoint } from "./socket-address.js";

export type EncryptionProvider =
  | {
      readonly kind: "kms";
      readonly name: string;
      /** v1 if the file does not give it. */
      readonly apiVersion: "v1" | "v2";
      readonly endpoint: string;
      readonly timeoutMs: number;
      readonly cacheSize: number | undefined;
    }
  | {
      readonly kind: "aescbc" | "aesgcm" | "secretbox";
      /** The provider writes with the first key. */
      readonly keyNames: readonly string[];
    }
  | { readonly kind: "identity" };

export interface EncryptionRule {
  /** As in the file: `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`. */
  readonly resources: readonly string[];
  /** The first provider writes; all of them read. */
  readonly providers: readonly EncryptionProvider[];
}

const DEFAULT_TIMEOUT = "3s";
const AES_KEY_BYTES = [16, 24, 32];
const SECRETBOX_KEY_BYTES = [32];

/** Matches what Go's base64.StdEncoding accepts: padded, line breaks allowed; leftover bits are ignored. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

const keys = (lengths: readonly number[]) => {
  const hint = `give ${lengths.join(", ")} bytes in base64`;
  const secret = z.string().refine((text) => {
    const digits = text.replace(/[\r\n]/g, "");
    return BASE64.test(digits) && lengths.includes(Buffer.from(digits, "base64").length);
  }, hint);
  // Keeps the name only; the secret must go no further.
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

/** Checks each entry by itself; encryption-configuration.ts checks them together. */
export const encryptionSchema = z.strictObject({
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
