// The schemas of the trials' replies: like every reply of a token host, they come from a process whose memory a vendor's
// library may have overwritten.
import { z } from "zod";
import { ERROR_CODES, KmsError } from "../errors.js";
import { MECHANISM_CHOICES, MECHANISMS } from "./mechanisms.js";
import type { TrialName, Trials } from "./wire-trials.js";

const text = z.string();
const count = z.int().nonnegative();
const secretKind = z.enum(["aes", "hmac"]);
const mechanismName = z.enum(MECHANISMS.map(({ name }) => name));

const facts = z.object({
  library: z.object({ manufacturer: text, description: text, version: text, cryptoki: text }).exactOptional(),
  slot: z
    .object({ description: text, manufacturer: text, hardware: text, firmware: text, flags: text })
    .exactOptional(),
  token: z.object({
    label: text,
    serial: text,
    manufacturer: text,
    model: text,
    hardware: text,
    firmware: text,
    flags: text,
    maxSessions: z.number(),
    pinBytes: z.tuple([z.number(), z.number()]),
  }),
  mechanisms: z.array(text),
});

const templates = z.object({
  keys: z.array(
    z.object({
      kind: secretKind,
      onToken: z.boolean(),
      outcome: text,
      keyType: text.exactOptional(),
      refused: z.array(z.object({ attribute: text, outcome: text })),
      bits: z.number().exactOptional(),
    }),
  ),
  lengths: z.array(
    z.object({
      attribute: z.enum(["CKA_ID", "CKA_LABEL"]),
      kept: count,
      refused: z.object({ bytes: count, outcome: text }).exactOptional(),
    }),
  ),
  relabel: text.exactOptional(),
  copy: text.exactOptional(),
});

const mechanism = z.object({
  choice: z.enum(MECHANISM_CHOICES),
  mechanism: mechanismName,
  works: z.boolean(),
  detail: text,
  code: z.enum(ERROR_CODES).exactOptional(),
  gcm: z
    .object({
      ckm: text,
      ivSent: z.enum(["random", "zero", "none"]),
      ivBytes: count,
      ownFormat: z.boolean(),
    })
    .exactOptional(),
  flippedBits: z.array(z.object({ at: z.enum(["first", "middle", "last"]), outcome: text })).exactOptional(),
  flippedAad: text.exactOptional(),
  lengths: z.array(z.object({ bytes: count, outcome: text })).exactOptional(),
});

const REPLIES: { readonly [N in TrialName]: z.ZodType<Trials[N]["reply"]> } = {
  describe: facts,
  templates,
  searches: z.array(z.object({ search: text, outcome: text, own: count, others: z.boolean() })),
  count: z.object({ found: count }),
  attributes: z.array(
    z.object({
      kind: z.enum(["aes", "hmac", "rsa"]),
      attribute: text,
      outcome: text,
      value: text.exactOptional(),
    }),
  ),
  mechanism,
  sessions: z.object({
    readOnly: text,
    loginShown: z.boolean().exactOptional(),
    loginShared: z.boolean(),
    open: count,
    oneMore: text,
    afterClosing: text,
  }),
  handle: z.object({ outcome: text.exactOptional() }),
  latencies: z.array(
    z.object({ call: text, samples: count, q1Ms: z.number(), medianMs: z.number(), q3Ms: z.number() }),
  ),
  remove: z.object({ removed: count, left: z.array(text) }),
};

/** Returns the reply to a trial. @throws KmsError HSM_UNAVAILABLE if it is malformed */
export function checkTrialReply<N extends TrialName>(trial: N, reply: unknown): Trials[N]["reply"] {
  const schema: z.ZodType<Trials[N]["reply"]> = REPLIES[trial];
  const checked = schema.safeParse(reply);
  if (checked.success) return checked.data;
  throw new KmsError("HSM_UNAVAILABLE", "the token host's reply is malformed", checked.error);
}
