// The output of `check --token-report`: what a token did. admin/token-report/ gives the meaning of each trial.
import { z } from "zod";
import { KEK_KINDS, MECHANISM_CHOICES } from "../../hsm/mechanisms.js";
import { count, instant, verdict, type Printed } from "./printed.js";

const outcome = z.string().describe("ok, the failed call's CK_RV, or what was wrong");
const choice = z.enum(MECHANISM_CHOICES);

const facts = z.object({
  library: z
    .object({
      manufacturer: z.string(),
      description: z.string(),
      version: z.string(),
      cryptoki: z.string(),
    })
    .optional(),
  slot: z
    .object({ manufacturer: z.string(), hardware: z.string(), firmware: z.string(), flags: z.string() })
    .optional(),
  token: z
    .object({
      manufacturer: z.string(),
      model: z.string(),
      hardware: z.string(),
      firmware: z.string(),
      flags: z.string(),
      maxSessions: z.int().describe("0 is unlimited"),
      pinBytes: z.tuple([z.int(), z.int()]),
    })
    .optional(),
  mechanisms: z.array(z.string()).optional(),
});

const templates = z.object({
  keys: z.array(
    z.object({
      kind: z.enum(["aes", "hmac"]),
      onToken: z.boolean(),
      outcome,
      keyType: z.string().optional(),
      refused: z.array(z.object({ attribute: z.string(), outcome })),
      bits: z.int().optional(),
    }),
  ),
  lengths: z.array(
    z.object({
      attribute: z.enum(["CKA_ID", "CKA_LABEL"]),
      kept: count,
      refused: z.object({ bytes: count, outcome }).optional(),
    }),
  ),
  relabel: outcome.optional(),
  copy: outcome.optional(),
});

const mechanism = z.object({
  choice,
  mechanism: z.string(),
  works: z.boolean(),
  detail: z.string(),
  code: z.string().optional(),
  gcm: z
    .object({
      ckm: z.string(),
      ivSent: z.enum(["random", "zero", "none"]),
      ivBytes: count,
      ownFormat: z.boolean(),
    })
    .optional(),
  flippedBits: z.array(z.object({ at: z.enum(["first", "middle", "last"]), outcome })).optional(),
  flippedAad: outcome.optional(),
  lengths: z.array(z.object({ bytes: count, outcome })).optional(),
});

export const tokenReportOutput = z.object({
  schema: z.literal("kms-pkcs11.dev/token-report/v1"),
  madeBy: z.string(),
  at: instant,
  seconds: z.number(),
  module: z.string().describe("file name of the PKCS#11 library"),
  facts,
  identity: z.union([
    z.literal("left out"),
    z.object({ label: z.string(), serial: z.string(), slot: z.string() }),
  ]),
  findings: z.array(z.object({ verdict, subject: z.string(), detail: z.string() })),
  login: z.object({
    required: z.boolean(),
    administrator: z.boolean(),
    otherProcess: z.boolean().optional(),
    otherLoad: z.boolean().optional(),
  }),
  exclusive: z.boolean().optional().describe("whether the library admits one process at a time"),
  rights: z.array(
    z.object({
      right: z.enum(["make keys", "import keys", "destroy keys"]),
      outcome: z.enum(["permitted", "refused", "untested"]),
      detail: z.string(),
    }),
  ),
  templates: templates.optional(),
  keks: z.array(
    z.object({
      choice,
      outcome,
      kind: z.enum(KEK_KINDS).optional(),
      idKept: z.boolean().optional(),
      remarks: z.array(z.string()).optional(),
    }),
  ),
  usedExistingKek: z.boolean(),
  visibility: z.object({
    made: z.string().optional(),
    destroyed: z.string().optional(),
    destroyedKey: outcome.optional(),
  }),
  searches: z.array(z.object({ search: z.string(), outcome, own: count, others: z.boolean() })),
  attributes: z.array(
    z.object({ kind: z.enum(KEK_KINDS), attribute: z.string(), outcome, value: z.string().optional() }),
  ),
  mechanisms: z.array(mechanism),
  sessions: z
    .object({
      readOnly: outcome,
      loginShown: z.boolean().optional().describe("whether a session that is logged in shows it"),
      loginShared: z.boolean(),
      open: count,
      oneMore: outcome,
      afterClosing: outcome,
    })
    .optional(),
  latencies: z.array(
    z.object({
      call: z.string(),
      samples: count,
      q1Ms: z.number(),
      medianMs: z.number(),
      q3Ms: z.number(),
    }),
  ),
  failures: z.array(z.object({ trial: z.string(), reason: z.string() })),
  leftBehind: z.array(z.string()),
});
export type TokenReportOutput = Printed<typeof tokenReportOutput>;
