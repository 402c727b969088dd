// The output of `keys`: KEK records, tokens, nodes and what was changed on them.
import { z } from "zod";
import { KEK_KINDS } from "../../hsm/mechanisms.js";
import { COPY_SIGNS } from "../../hsm/wire-calls.js";
import { instant, next, type Printed } from "./printed.js";

const kekKind = z.enum(KEK_KINDS).describe("the key objects that make up the KEK");

/** A KEK as a token lists it. */
const kekRecord = z.object({
  keyId: z.string(),
  aliases: z.array(z.string()).describe("other key_ids of the same value"),
  label: z.string().describe("CKA_LABEL"),
  ckaId: z.string().describe("CKA_ID in hexadecimal; empty if it has none"),
  kind: kekKind,
  unprotected: z.array(z.string()).describe("attributes that forbid its use"),
  remarks: z.array(z.string()).describe("shortcomings that do not forbid its use"),
  heldBy: z.array(z.string()).optional().describe("the tokens that hold it, if several are configured"),
});

const readinessState = z
  .enum(["ready", "active", "missing", "failing", "unreachable"])
  .describe("active: a node uses it already");

const tokenReadiness = z.object({ token: z.string(), state: readinessState, detail: z.string() });
const nodeReadiness = z.object({
  url: z.string(),
  state: readinessState,
  detail: z.string(),
  clockAheadMs: z.int().nullable().describe("how far the node's clock is ahead; null if it does not answer"),
});

const tokenChanges = z
  .array(
    z.object({
      token: z.string(),
      outcome: z
        .enum(["done", "not needed", "failed", "unknown"])
        .describe("unknown: a call failed, and the token could not be read afterwards"),
      error: z.string().nullable(),
    }),
  )
  .describe("what was changed on each token");

export const keysCreateOutput = z.object({
  created: kekRecord,
  tokens: z
    .array(
      z.object({
        kind: z.enum(["token", "node"]),
        name: z.string(),
        state: readinessState,
        detail: z.string(),
        clockAheadMs: z.int().nullable(),
      }),
    )
    .describe("the other tokens of the configuration, which need a clone"),
  next,
});
export type KeysCreateOutput = Printed<typeof keysCreateOutput>;

const listedKey = z.object({
  keyId: z.string(),
  aliases: z.array(z.string()).describe("other key_ids of the same value"),
  label: z.string(),
  ckaId: z.string(),
  kind: kekKind,
  state: z
    .enum(["standby", "active", "retired", "refused"])
    .describe("by the labels and this machine's clock; refused: never used"),
  activation: instant.nullable().describe("the instant from which it is active; null: always"),
  ageSeconds: z.int().nullable().describe("since its activation; negative before it"),
  approved: z
    .boolean()
    .nullable()
    .describe("whether this machine's node may activate it; null if no policy decides"),
  findings: z.array(z.string()),
  tokens: z.array(z.string()).describe("the tokens that hold it"),
});

const nodeReport = z.object({
  url: z.string(),
  activeKeyId: z.string().nullable().describe("the KEK that Status names and Encrypt uses"),
  publishedKeyId: z.string().nullable().describe("the same value, under the field's name in /keys"),
  dueKeyId: z.string().nullable().describe("the KEK that the next Status call publishes"),
  standby: z.array(z.string()),
  retired: z.array(z.string()),
  notApproved: z
    .array(z.object({ keyId: z.string(), reason: z.string() }))
    .describe("the KEKs that its policy does not let it activate"),
  problems: z.array(z.string()),
  clockAheadMs: z.int().nullable(),
  clockErrorMs: z.int().nullable(),
  remembersSince: instant
    .nullable()
    .describe("since when the node remembers under which key_ids it answered"),
  error: z.string().nullable().describe("why the node does not answer; null when it does"),
});

export const keysListOutput = z.object({
  keys: z.array(listedKey),
  tokens: z.array(z.object({ token: z.string(), error: z.string().nullable() })),
  nodes: z.array(nodeReport),
  differences: z.array(z.string()).describe("a line for each difference between tokens and nodes"),
  problem: z
    .string()
    .nullable()
    .describe("why no KEK is active; null when one is, or when no token was asked"),
});
export type KeysListOutput = Printed<typeof keysListOutput>;

export const keysRotateOutput = z.object({
  label: z.string(),
  activation: instant,
  from: z.string().describe("key_id of the KEK that is replaced"),
  created: kekRecord.nullable().describe("null after a dry run"),
  tokens: z.array(tokenReadiness),
  nodes: z.array(nodeReadiness),
  converged: z
    .boolean()
    .nullable()
    .describe("whether every token and node had the KEK before its activation; null if it was not awaited"),
  interrupted: z.boolean(),
  kept: z.string().nullable().describe("why the KEK was kept although a token or node lacked it"),
  aborted: z.object({ reason: z.string(), tokens: tokenChanges }).nullable(),
  next,
});
export type KeysRotateOutput = Printed<typeof keysRotateOutput>;

export const keysAdoptOutput = z.object({
  adopted: z.object({ keyId: z.string(), label: z.string() }),
  tokens: tokenChanges,
  next,
});
export type KeysAdoptOutput = Printed<typeof keysAdoptOutput>;

export const keysDestroyOutput = z.object({
  destroyed: z.object({
    keyId: z.string(),
    label: z.string(),
    state: z.enum(["standby", "active", "retired", "refused"]).describe("before it was destroyed"),
    proof: z.string().describe("why nothing needs it any more"),
    copies: z
      .array(
        z.object({
          token: z.string(),
          label: z.string(),
          ckaId: z.string().describe("in hex; empty if it has none"),
          sign: z
            .enum(COPY_SIGNS)
            .describe(
              "what it shares with the KEK; a check value has three bytes and may be shared by chance",
            ),
        }),
      )
      .describe("other keys on the tokens that have, or seem to have, its value; they were not destroyed"),
  }),
  tokens: tokenChanges,
  nodes: z
    .array(
      z.object({
        url: z.string(),
        listed: z
          .boolean()
          .nullable()
          .describe("whether the node still lists it; null if it does not answer"),
        error: z.string().nullable(),
      }),
    )
    .describe("what the nodes list afterwards"),
  next,
});
export type KeysDestroyOutput = Printed<typeof keysDestroyOutput>;
