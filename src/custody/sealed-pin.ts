// The sealed PIN, version 1: a JSON document that is useless without enough shares. AES-256-GCM encrypts the PIN under
// the shared key; everything else in the document is associated data. It lists a digest of every share, so that each
// share can be judged alone. The PIN is padded to one length, so that the document does not show how long it is.
import { createSecretKey } from "node:crypto";
import { z } from "zod";
import { openSealed, sealUnder } from "../aead.js";
import { KmsError } from "../errors.js";
import { MAX_EPOCH, MAX_SHARES, MIN_THRESHOLD } from "./share.js";

const VERSION = 1;
const KIND = "kms-pkcs11 sealed PIN";
/** A length byte and the longest PIN. */
const PADDED_BYTES = 256;
/** IV, padded PIN and tag, in base64. */
const SEALED = /^[A-Za-z0-9+/]{379}=$/;
export const MAX_DOCUMENT_BYTES = 8 * 1024;

const documentSchema = z.strictObject({
  kind: z.literal(KIND),
  version: z.literal(VERSION),
  /** The token as the configuration selects it. */
  token: z.string().max(1024),
  /** The user type of C_Login. */
  role: z.int().min(0).max(0xffffffff),
  set: z.string().regex(/^[0-9a-f]{8}$/),
  epoch: z.int().min(1).max(MAX_EPOCH),
  threshold: z.int().min(MIN_THRESHOLD).max(MAX_SHARES),
  /** The digests of the shares in the order of their indexes. */
  shares: z
    .array(z.string().regex(/^[0-9a-f]{64}$/))
    .min(MIN_THRESHOLD)
    .max(MAX_SHARES),
  sealed: z.string().regex(SEALED),
});

/** A sealed PIN. */
export type SealedPin = z.infer<typeof documentSchema>;

/** The parts of a sealed PIN that are not encrypted. */
export type SealedPinHead = Omit<SealedPin, "kind" | "version" | "sealed">;

/** Seals a PIN of 1 to 255 bytes under a key of 32 bytes. The caller zeroes both. */
export function sealPin(head: SealedPinHead, key: Uint8Array, pin: Uint8Array): SealedPin {
  const padded = Buffer.alloc(PADDED_BYTES);
  padded[0] = pin.length;
  padded.set(pin, 1);
  const sealed = sealUnder(createSecretKey(key), associatedData(head), padded).toString("base64");
  padded.fill(0);
  return { kind: KIND, version: VERSION, ...head, sealed };
}

/** Returns the PIN for the caller to zero; undefined if the document does not authenticate under the key. */
export function openPin(document: SealedPin, key: Uint8Array): Buffer | undefined {
  const sealed = Buffer.from(document.sealed, "base64");
  const padded = openSealed(createSecretKey(key), associatedData(document), sealed);
  if (padded === undefined) return undefined;
  const pin = Buffer.alloc(padded[0] ?? 0);
  padded.copy(pin, 0, 1);
  padded.fill(0);
  return pin;
}

/** Requires that a sealed PIN belongs to this token and role. @throws KmsError CONFIG_INVALID */
export function requireSealedFor(
  sealed: Pick<SealedPin, "token" | "role">,
  { token, role }: Pick<SealedPin, "token" | "role">,
  path: string,
): void {
  if (sealed.token === token && sealed.role === role) return;
  const text = `${path} was sealed for ${sealed.token} and role ${sealed.role}; the configuration names ${token} and role ${role}`;
  throw new KmsError("CONFIG_INVALID", text);
}

/** Reads a document. @throws KmsError CONFIG_INVALID; `path` names it in the message */
export function parseSealedPin(bytes: Buffer, path: string): SealedPin {
  let document: unknown;
  try {
    document = JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    throw new KmsError("CONFIG_INVALID", `${path} is not a sealed PIN; restore it from a copy`, error);
  }
  const { version } = (document ?? {}) as { version?: unknown };
  if (typeof version === "number" && version !== VERSION) {
    const text = `${path} has format version ${version}; this release reads version ${VERSION}`;
    throw new KmsError("CONFIG_INVALID", text);
  }
  const parsed = documentSchema.safeParse(document);
  if (parsed.success && parsed.data.threshold <= parsed.data.shares.length) return parsed.data;
  throw new KmsError("CONFIG_INVALID", `${path} is not a sealed PIN or is damaged; restore it from a copy`);
}

/** An array has one encoding only: no member can be read as part of another. */
function associatedData({ token, role, set, epoch, threshold, shares }: SealedPinHead): Buffer {
  return Buffer.from(JSON.stringify([KIND, VERSION, token, role, set, epoch, threshold, shares]));
}
