// A random PIN that a token accepts. Contains only characters that every token accepts: digits, and ASCII letters in both
// cases, at least one of each kind, since some tokens require that. Knows only the lengths that tokens report.
import { randomInt } from "node:crypto";
import { KmsError } from "../errors.js";

const KINDS = ["0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] as const;
/** 190 bits with letters, 106 bits with digits only. */
const USUAL_LENGTH = 32;
/** Six digits are the shortest PIN in common use; they suffice, since a token locks after a few wrong PINs. */
const LEAST_LENGTH = 6;
/** A sealed PIN is padded to this length. */
const MOST_LENGTH = 255;

/** Which PINs a token accepts. */
export interface PinRules {
  /** Shortest and longest PIN in bytes; undefined if the token does not report it. */
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  /** Length that the operator chose; undefined for the usual one. */
  readonly length?: number | undefined;
  /** Whether the token accepts digits only. */
  readonly digitsOnly: boolean;
}

/** Returns the length of the PINs that `randomPin` makes. @throws KmsError TOKEN_REFUSED if the token allows no such PIN */
export function pinLength({ min = 0, max = MOST_LENGTH, length }: Omit<PinRules, "digitsOnly">): number {
  const chosen = length ?? Math.max(min, Math.min(USUAL_LENGTH, max));
  if (chosen >= Math.max(LEAST_LENGTH, min) && chosen <= Math.min(MOST_LENGTH, max)) return chosen;
  const text = `the token accepts PINs of ${min} to ${max} bytes, and a random PIN has ${LEAST_LENGTH} to ${MOST_LENGTH}`;
  throw new KmsError("TOKEN_REFUSED", length === undefined ? text : `--length: ${text}`);
}

/** Returns a random PIN as ASCII, for the caller to zero. @throws KmsError TOKEN_REFUSED if the token allows no such PIN */
export function randomPin(rules: PinRules): Buffer {
  const kinds = rules.digitsOnly ? KINDS.slice(0, 1) : KINDS;
  const alphabet = kinds.join("");
  const pin = Buffer.alloc(pinLength(rules));
  do {
    for (let at = 0; at < pin.length; at++) pin[at] = alphabet.charCodeAt(randomInt(alphabet.length));
  } while (!kinds.every((kind) => pin.some((byte) => kind.includes(String.fromCharCode(byte)))));
  return pin;
}
