// Splits a PIN among custodians: seals it under a random key, and splits that key by Shamir's scheme over GF(256), with
// the audited package shamir-secret-sharing. Fewer shares than the threshold reveal nothing of the key.
import { randomBytes } from "node:crypto";
import { split } from "shamir-secret-sharing";
import { KmsError } from "../errors.js";
import { sealPin, type SealedPin } from "./sealed-pin.js";
import { digestShare, MAX_EPOCH, MAX_SHARES, MIN_THRESHOLD, SET_BYTES, type Share } from "./share.js";

const KEY_BYTES = 32;

/** How a PIN is split. */
export interface SplitPlan {
  /** The token as the configuration selects it, and the user type of C_Login. */
  readonly token: string;
  readonly role: number;
  readonly threshold: number;
  readonly shares: number;
  /** The sealed PIN that this one replaces: the set stays, the epoch grows. */
  readonly before?: Pick<SealedPin, "set" | "epoch"> | undefined;
}

/** A sealed PIN and its shares, whose points the caller zeroes. */
export interface SplitPin {
  readonly sealed: SealedPin;
  readonly shares: readonly Share[];
}

/** Requires numbers that a set of shares can have. @throws KmsError CONFIG_INVALID */
export function requirePossible({ threshold, shares }: Pick<SplitPlan, "threshold" | "shares">): void {
  if (!Number.isInteger(threshold) || threshold < MIN_THRESHOLD) {
    throw new KmsError("CONFIG_INVALID", `--threshold: give at least ${MIN_THRESHOLD}, such as 2 of 3`);
  }
  if (!Number.isInteger(shares) || shares > MAX_SHARES) {
    throw new KmsError("CONFIG_INVALID", `--shares: give at most ${MAX_SHARES}`);
  }
  if (threshold > shares) {
    throw new KmsError("CONFIG_INVALID", "--threshold: is greater than --shares; nobody could ever unlock");
  }
}

/** Splits a PIN, which the caller zeroes. @throws KmsError CONFIG_INVALID */
export async function splitPin(pin: Uint8Array, plan: SplitPlan): Promise<SplitPin> {
  requirePossible(plan);
  const { token, role, threshold, before } = plan;
  const set = before?.set ?? randomBytes(SET_BYTES).toString("hex");
  const epoch = (before?.epoch ?? 0) + 1;
  if (epoch > MAX_EPOCH) {
    throw new KmsError("CONFIG_INVALID", "this set has no further epoch; split the PIN again");
  }
  // Not a Buffer: the package accepts nothing but Uint8Array itself.
  const key = Uint8Array.from(randomBytes(KEY_BYTES));
  try {
    const points = await split(key, plan.shares, threshold);
    const shares = points.map((point, at) => ({ set, epoch, threshold, index: at + 1, point }));
    const head = { token, role, set, epoch, threshold, shares: shares.map(digestShare) };
    return { sealed: sealPin(head, key, pin), shares };
  } finally {
    key.fill(0);
  }
}
