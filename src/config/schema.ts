// The configuration file's schema: kind PluginConfiguration. Every setting says what it is for, its sensible
// range and its default; the README's table is compared with this file by a test. Unknown settings are errors.
import { z } from "zod";
import { parseDuration } from "./duration.js";

export const API_VERSION = "kms-pkcs11.dev/v1";
export const KIND = "PluginConfiguration";

interface DurationRange {
  readonly min: string;
  readonly max: string;
}

function duration(fallback: string, { min, max }: DurationRange): z.ZodType<number> {
  const low = parseDuration(min) ?? 0;
  const high = parseDuration(max) ?? 0;
  return z
    .string({ error: `a duration such as ${fallback}` })
    .default(fallback)
    .transform((text, context) => {
      const ms = parseDuration(text);
      if (ms !== undefined && ms >= low && ms <= high) return ms;
      context.addIssue({ code: "custom", message: `a duration from ${min} to ${max}, such as ${fallback}` });
      return z.NEVER;
    });
}

function whole(fallback: number, min: number, max: number): z.ZodType<number> {
  const message = `a whole number from ${String(min)} to ${String(max)}`;
  return z.number({ error: message }).int(message).min(min, message).max(max, message).default(fallback);
}

const pin = z
  .strictObject({
    file: z
      .string()
      .startsWith("/", "an absolute path")
      .optional()
      .describe("File that holds the PIN; only this user should be able to read it."),
    env: z
      .string()
      .min(1, "the name of an environment variable")
      .optional()
      .describe("Environment variable that holds the PIN."),
    credential: z
      .string()
      .min(1, "the name of a systemd credential")
      .optional()
      .describe("systemd credential that holds the PIN."),
  })
  .refine((value) => Object.keys(value).length <= 1, "one of file, env and credential")
  .optional();

const vendorModule = z.strictObject({
  path: z
    .string()
    .startsWith("/", "an absolute path")
    .optional()
    .describe("The vendor's PKCS#11 library, if not given as module-path in the URI."),
  parameters: z.string().optional().describe("String for C_Initialize, for libraries that take one (NSS)."),
});

const section = <T extends z.ZodRawShape>(shape: T): z.ZodPrefault<z.ZodObject<T, z.core.$strict>> =>
  z.strictObject(shape).prefault({} as never);

export const configurationSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION, { error: `"${API_VERSION}"` }),
  kind: z.literal(KIND, { error: `"${KIND}"` }),
  socket: section({
    path: z
      .string()
      .optional()
      .describe(
        "Where kube-apiserver connects: /path, unix:///path, or unix:///@name with allowAbstract. Required by serve.",
      ),
    mode: z
      .string({ error: 'octal digits in quotes, such as "0600"' })
      .regex(/^0?[0-7]{3}$/, 'octal digits in quotes, such as "0600"')
      .refine(
        (text) => (Number.parseInt(text, 8) & 0o007) === 0,
        'a mode that gives others nothing, such as "0660"',
      )
      .default("0600")
      .describe(
        "Permissions of the socket file; 0660 together with group lets another user's API server in.",
      ),
    group: z.string().min(1).optional().describe("Group (name or gid) that the socket file is given to."),
    allowAbstract: z
      .boolean()
      .default(false)
      .describe("Allow an abstract socket, which any process on the node can connect to."),
  }),
  keys: section({
    uri: z
      .string({ error: "the KEK's PKCS#11 URI" })
      .optional()
      .describe(
        "PKCS#11 URI (RFC 7512) of the KEK: token, object, module-path, pin-source. Required, here or as --key.",
      ),
    active: z
      .string()
      .min(1)
      .optional()
      .describe("key_id or CKA_ID (hex) of the key to encrypt with, where several carry the plain label."),
    allowUnprotected: z
      .array(z.string())
      .default([])
      .describe("Labels of keys that may be used although extractable, not sensitive or not private."),
    refreshInterval: duration("30s", { min: "1s", max: "1h" }).describe(
      "How often the token is read for new and missing keys and every key is proven.",
    ),
  }),
  module: vendorModule.prefault({}),
  pin,
  failover: z
    .array(z.strictObject({ uri: z.string(), module: vendorModule.optional(), pin }))
    .default([])
    .describe(
      "Further tokens that hold clones of the KEK, in order of preference: uri, module and pin as above.",
    ),
  mode: z
    .enum(["direct", "local-kek"], { error: "direct or local-kek" })
    .default("direct")
    .describe("direct: an HSM call for every DEK seed. local-kek: an HSM call for each local KEK."),
  mechanism: z
    .enum(["auto", "aes-gcm", "hmac-kdf", "aes-kwp", "aes-cbc-hmac"], {
      error: "auto, aes-gcm, hmac-kdf, aes-kwp or aes-cbc-hmac",
    })
    .default("auto")
    .describe(
      "How the HSM encrypts; auto takes the first that key and token are found to perform. Old ciphertexts stay readable.",
    ),
  localKek: section({
    maxAge: duration("24h", { min: "1m", max: "720h" }).describe("A local KEK is replaced after this time."),
    maxUses: whole(1_048_576, 1, 1_048_576).describe("A local KEK is replaced after this many Encrypts."),
  }),
  cache: section({
    entries: whole(1_000, 0, 1_000_000).describe("Most plaintexts in the unwrap cache; 0 turns it off."),
    ttl: duration("1h", { min: "1s", max: "24h" }).describe(
      "How long a plaintext may stay in the unwrap cache.",
    ),
  }),
  hsm: section({
    requestTimeout: duration("2s", { min: "100ms", max: "2900ms" }).describe(
      "Time for one request; below kube-apiserver's own timeout (3s).",
    ),
    startTimeout: duration("30s", { min: "1s", max: "10m" }).describe(
      "Time for loading the module, logging in and reading the keys.",
    ),
    hosts: whole(2, 1, 4).describe(
      "Processes that load the vendor's library; one serves, the others are warm.",
    ),
    sessions: whole(16, 1, 64).describe(
      "Most sessions of each process; more than one are opened only for a slow token.",
    ),
    queue: whole(1_000, 1, 100_000).describe(
      "Most requests that wait for a session; further ones are refused.",
    ),
    allowFinalTry: z.boolean().default(false).describe("Spend the token's last PIN attempt too."),
  }),
  health: section({
    outageGracePeriod: duration("10m", { min: "0s", max: "24h" }).describe(
      "How long Status stays ok while the HSM is away.",
    ),
    onHsmLoss: z
      .enum(["stopWrites", "keepWriting"], { error: "stopWrites or keepWriting" })
      .default("stopWrites")
      .describe(
        "After the grace period: let writes end within 3 minutes, or report the reason and let them go on.",
      ),
  }),
  http: section({
    address: z
      .string()
      .default("off")
      .describe(
        "Loopback address and port of /livez, /readyz, /healthz, /metrics and /keys, such as 127.0.0.1:8090; off.",
      ),
  }),
  stateDir: z
    .string()
    .startsWith("/", "an absolute path")
    .optional()
    .describe("Folder for what must outlive a restart: refused PINs and the last active key_id."),
  log: section({
    level: z
      .enum(["debug", "info", "warn", "error"], { error: "debug, info, warn or error" })
      .default("info")
      .describe("Least severity that is logged."),
  }),
});

export type Configuration = z.output<typeof configurationSchema>;

export interface SettingRow {
  readonly path: string;
  readonly default: string;
  readonly description: string;
}

/** Every setting with its default and its description, in the schema's order. */
export function settingRows(): SettingRow[] {
  return rowsOf("", configurationSchema);
}

function rowsOf(path: string, schema: z.core.$ZodType): SettingRow[] {
  const { inner, fallback, description } = unwrapped(schema);
  if (inner instanceof z.ZodObject) {
    return Object.entries(inner.shape).flatMap(([name, child]) =>
      rowsOf(path === "" ? name : `${path}.${name}`, child),
    );
  }
  return [
    {
      path,
      default: fallback ?? (inner instanceof z.ZodLiteral ? String(inner.value) : ""),
      description: description ?? "",
    },
  ];
}

interface Unwrapped {
  readonly inner: z.core.$ZodType;
  readonly fallback?: string;
  readonly description?: string;
}

function unwrapped(schema: z.core.$ZodType): Unwrapped {
  let inner = schema;
  let fallback: string | undefined;
  let description: string | undefined;
  for (;;) {
    description ??= (inner as z.ZodType).description;
    if (inner instanceof z.ZodDefault) fallback = shown(inner.def.defaultValue);
    if (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional)
      inner = inner.def.innerType;
    else if (inner instanceof z.ZodPipe) inner = inner.def.in;
    else break;
  }
  return {
    inner,
    ...(fallback !== undefined && { fallback }),
    ...(description !== undefined && { description }),
  };
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
