// The configuration document: every option with its default, range and purpose. The page of settings, the checks and the
// messages are derived from it. Checks that involve several options are in `settings.ts`.
import { z } from "zod";
import { MECHANISM_CHOICES } from "../hsm/mechanisms.js";
import { approvalsSection } from "./approvals-schema.js";
import { clustersSection } from "./clusters-schema.js";
import { keysSection } from "./keys-schema.js";
import { auditSection } from "./audit-schema.js";
import { parseHttpAddress } from "./http-address.js";
import { parseNodeAddresses } from "./node-address.js";
import { choice, duration, flag, integer, OPTIONS, optionalText, presetText, textList } from "./option.js";
import { checkAbsolutePath } from "./pin-source-name.js";
import { adminSection, failoverSection, loginSection, moduleSection, pinSection } from "./token-schema.js";
import { socketSection } from "./socket-schema.js";

export const API_VERSION = "kms-pkcs11.dev/v1";
export const KIND = "PluginConfiguration";
export const MODES = ["direct", "local-kek"] as const;
export const MECHANISM_SETTINGS = ["auto", ...MECHANISM_CHOICES] as const;
export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;

const localKekSection = z.strictObject({
  maxAge: duration({
    least: "1s",
    most: "168h",
    preset: "24h",
    why: "Age from which a local KEK is no longer used to encrypt",
  }),
  maxUses: integer({
    least: 1,
    most: 1_048_576,
    preset: 1_048_576,
    why: "Encryptions after which a local KEK is replaced",
  }),
});

const cacheSection = z.strictObject({
  entries: integer({
    least: 0,
    most: 1_000_000,
    preset: 1000,
    why: "Number of decrypted DEK seeds kept in memory; 0 turns the cache off",
  }),
  ttl: duration({
    least: "1s",
    most: "24h",
    preset: "1h",
    why: "How long a decrypted DEK seed is used; before that, the HSM decrypts it again in the background",
  }),
  outageTtl: duration({
    least: "0s",
    most: "168h",
    preset: "48h",
    why: "How long it is used while the HSM is away; no effect if shorter than cache.ttl",
  }),
  remember: flag({
    preset: true,
    why: "Whether stateDir keeps the ciphertexts of cached DEK seeds, so that they are decrypted in advance after a restart",
  }),
});

const hsmSection = z.strictObject({
  requestTimeout: duration({
    least: "100ms",
    most: "2900ms",
    preset: "2s",
    why: "Time limit for one request, after which a hung token host is replaced; below kube-apiserver's 3 s",
  }),
  hosts: integer({
    least: 1,
    most: 4,
    preset: 2,
    why: "Number of token hosts: one serves, the others are warm",
  }),
  sessions: integer({
    least: 1,
    most: 64,
    preset: 16,
    why: "Maximum number of sessions per token host. A slow HSM gets 8 at the start and more while requests wait, so that requests overlap; each takes about 12 MB, and all but 2 are closed when they are not needed",
  }),
  queue: integer({
    least: 1,
    most: 100_000,
    preset: 1000,
    why: "Number of requests that may wait; further ones are refused at once",
  }),
  startTimeout: duration({
    least: "1s",
    most: "10m",
    preset: "30s",
    why: "Time limit for loading the library and logging in, and for each step of reading the token; some tokens are slow",
  }),
  allowFinalTry: flag({
    preset: false,
    why: "Allows the token's last PIN attempt; a wrong PIN then locks the token",
  }),
});

const healthSection = z.strictObject({
  outageGracePeriod: duration({
    least: "0s",
    most: "24h",
    preset: "10m",
    why: "How long `Status` stays `ok` with the last proven key_id while the HSM is away",
  }),
  onHsmLoss: choice({
    values: ["stopWrites", "keepWriting"],
    preset: "stopWrites",
    why: "After the grace period: `stopWrites` makes writes fail within 3 min, `keepWriting` continues them with the reason in `healthz`",
  }),
  proofInterval: duration({
    least: "100ms",
    most: "10m",
    preset: "30s",
    why: "How often every KEK is proved by encrypting and decrypting on the token",
  }),
});

export const documentSchema = z.strictObject({
  apiVersion: z
    .literal(API_VERSION)
    .register(OPTIONS, { kind: "text", range: API_VERSION, description: "Version of this format" }),
  kind: z
    .literal(KIND)
    .register(OPTIONS, { kind: "text", range: KIND, description: "Kind of this document" }),
  socket: socketSection.prefault({}),
  keys: keysSection,
  module: moduleSection,
  pin: pinSection,
  login: loginSection,
  admin: adminSection,
  failover: failoverSection,
  mode: choice({
    values: MODES,
    preset: "direct",
    why: "`direct`: the HSM encrypts every DEK seed; `local-kek`: a local KEK does, even while the HSM is away",
  }),
  mechanism: choice({
    values: MECHANISM_SETTINGS,
    preset: "auto",
    why: "Mechanism that encrypts new DEK seeds; `auto` selects the first that key and token support in a test",
  }),
  localKek: localKekSection.prefault({}),
  cache: cacheSection.prefault({}),
  hsm: hsmSection.prefault({}),
  health: healthSection.prefault({}),
  http: z
    .strictObject({
      address: presetText({
        preset: "off",
        range: "a loopback address such as 127.0.0.1:8090, or off",
        read: parseHttpAddress,
        why: "Where `/metrics`, `/livez`, `/readyz`, `/healthz` and `/keys` are served, without authentication",
      }),
    })
    .prefault({}),
  stateDir: optionalText({
    range: "an absolute path",
    read: checkAbsolutePath,
    why: "Directory that keeps the record of refused PINs, the published key_id and the working set across restarts; `serve` requires it",
  }),
  audit: auditSection.prefault({}),
  approvals: approvalsSection.prefault({}),
  clusters: clustersSection,
  nodes: textList({
    range: "a list of addresses such as http://127.0.0.1:8090 or ssh://root@cp-2",
    check: (texts) => parseNodeAddresses(texts),
    why: "Every node's plugin, for commands with --nodes that are run without it; `serve` ignores them. ssh://USER@HOST reaches `http.address` on that node through ssh",
  }),
  log: z
    .strictObject({
      level: choice({ values: LOG_LEVELS, preset: "info", why: "Lowest level that is logged" }),
    })
    .prefault({}),
});

export type Document = z.output<typeof documentSchema>;
