// Decodes what a token host answers. A vendor's library runs in that process and may have overwritten its memory, so
// the plugin checks every reply against its schema before it uses it. Only the plugin's end of the wire loads this file.
import { z } from "zod";
import { ERROR_CODES, KmsError } from "../errors.js";
import { FAULT_CLASSES, PIN_VERDICTS } from "./fault.js";
import { KEK_KINDS, MECHANISM_CHOICES, MECHANISMS } from "./mechanisms.js";
import { decodeJsonBody } from "./wire.js";
import { COPY_SIGNS, Op, type ControlOp, type ControlReply, type WireFailure } from "./wire-calls.js";

const text = z.string();
const count = z.int().nonnegative();

const description = z.object({
  label: text,
  serial: text,
  manufacturer: text,
  model: text,
  slotId: z.number(),
  loginRequired: z.boolean(),
  loggedIn: z.boolean(),
  callMs: z.number().exactOptional(),
  pinCountLow: z.boolean(),
  pinFinalTry: z.boolean(),
  pinLocked: z.boolean(),
  protectedAuthenticationPath: z.boolean(),
  maxSessions: z.number().exactOptional(),
  oneThread: z.boolean().exactOptional(),
  minPinBytes: z.number().exactOptional(),
  maxPinBytes: z.number().exactOptional(),
  library: text,
});

const record = z.object({
  keyId: text,
  aliases: z.array(text),
  label: text,
  ckaId: text,
  kind: z.enum(KEK_KINDS),
  unprotected: z.array(text),
  remarks: z.array(text),
});

const slice = z.discriminatedUnion("done", [
  z.object({ done: z.literal(false), seen: count, objects: count }),
  z.object({
    done: z.literal(true),
    keks: z.array(record),
    objects: count,
    unreadable: count,
    unreadableReason: text,
    operationMs: z.number().exactOptional(),
  }),
]);

const probe = z.object({
  mechanism: z.enum(MECHANISMS.map(({ name }) => name)),
  works: z.boolean(),
  detail: text,
});

const right = z.object({
  right: z.enum(["make keys", "import keys", "destroy keys"]),
  outcome: z.enum(["permitted", "refused", "untested"]),
  detail: text,
});

const nothing = z.strictObject({});

const REPLIES: { readonly [O in ControlOp]: z.ZodType<ControlReply<O>> } = {
  [Op.open]: description,
  [Op.describe]: description,
  [Op.login]: nothing,
  [Op.setPin]: nothing,
  [Op.readKeks]: slice,
  [Op.setKeks]: nothing,
  [Op.probe]: z.array(probe),
  [Op.rights]: z.array(right),
  [Op.chooseKek]: z.object({ kind: z.enum(KEK_KINDS), mechanism: z.enum(MECHANISM_CHOICES) }),
  [Op.generate]: record,
  [Op.destroy]: z.object({ objects: count }),
  [Op.findCopies]: z.array(z.object({ label: text, ckaId: text, sign: z.enum(COPY_SIGNS) })),
  [Op.relabel]: record,
  // checkTrialReply checks it.
  [Op.trial]: z.unknown(),
  [Op.close]: nothing,
  [Op.end]: nothing,
};

const failure: z.ZodType<WireFailure> = z.object({
  code: z.enum(ERROR_CODES),
  message: text,
  fault: z.enum(FAULT_CLASSES),
  rv: z.number().exactOptional(),
  unknownRv: z.boolean().exactOptional(),
  pin: z.enum(PIN_VERDICTS).exactOptional(),
});

/** Returns the reply to a control request. @throws KmsError HSM_UNAVAILABLE on a malformed reply */
export function decodeControlReply<O extends ControlOp>(op: O, body: Buffer): ControlReply<O> {
  const schema: z.ZodType<ControlReply<O>> = REPLIES[op];
  return decode(schema, body);
}

/** Returns why a request failed. @throws KmsError HSM_UNAVAILABLE on a malformed reply */
export function decodeFailure(body: Buffer): WireFailure {
  return decode(failure, body);
}

function decode<T>(schema: z.ZodType<T>, body: Buffer): T {
  try {
    return schema.parse(decodeJsonBody(body).value);
  } catch (error) {
    throw new KmsError("HSM_UNAVAILABLE", "the token host's reply is malformed", error);
  }
}
