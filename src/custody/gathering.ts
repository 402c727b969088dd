// Gathers shares of one sealed PIN until there are enough to open it. Every share is judged alone, by its checksum, its
// name and its digest, so that a wrong one is named and does not spoil the others. Never calls a token: no mistake here
// costs a PIN attempt.
import { combine } from "shamir-secret-sharing";
import { KmsError } from "../errors.js";
import { openPin, type SealedPin } from "./sealed-pin.js";
import { digestShare, type Share, type ShareName } from "./share.js";

/** Why a share does not count. */
export type ShareFault = "foreign" | "outdated" | "newer" | "altered" | "duplicate";

/** Returns why a share does not belong to a sealed PIN, or undefined if it was issued with it. */
function faultOf(share: Share, sealed: SealedPin): Exclude<ShareFault, "duplicate"> | undefined {
  if (share.set !== sealed.set) return "foreign";
  if (share.epoch < sealed.epoch) return "outdated";
  if (share.epoch > sealed.epoch) return "newer";
  return digestShare(share) === sealed.shares[share.index - 1] ? undefined : "altered";
}

/** Returns what is wrong with a share and what to do, for the custodian. */
export function describeFault(fault: ShareFault, share: ShareName, sealed: SealedPin): string {
  const name = `share ${share.index} (set ${share.set}, epoch ${share.epoch})`;
  switch (fault) {
    case "foreign":
      return `${name} belongs to another PIN: this one has set ${sealed.set}; use the page of that set`;
    case "outdated":
      return `${name} is outdated: the PIN was renewed, and epoch ${sealed.epoch} is in force; use the newer page`;
    case "newer":
      return `${name} is newer than the sealed PIN of this machine, epoch ${sealed.epoch}; copy the renewed file here`;
    case "altered":
      return `${name} was not issued with this sealed PIN, although its checksum is right; find out who made it, or restore the file from a copy`;
    case "duplicate":
      return `${name} has been entered already; another custodian is needed`;
  }
}

/** The shares of one sealed PIN that have been accepted so far. */
export class Gathering {
  readonly sealed: SealedPin;
  readonly #points = new Map<number, Uint8Array>();

  constructor(sealed: SealedPin) {
    this.sealed = sealed;
  }

  /** Number of different shares. */
  get count(): number {
    return this.#points.size;
  }

  /** Number of shares that are still missing. */
  get missing(): number {
    return Math.max(0, this.sealed.threshold - this.count);
  }

  /** Takes a share and owns its point. Returns why it does not count; undefined if it does. */
  add(share: Share): ShareFault | undefined {
    const fault = faultOf(share, this.sealed) ?? (this.#points.has(share.index) ? "duplicate" : undefined);
    if (fault === undefined) this.#points.set(share.index, share.point);
    else share.point.fill(0);
    return fault;
  }

  /**
   * Opens the sealed PIN and returns it for the caller to zero; the shares are zeroed.
   * @throws KmsError INPUT_INVALID if shares are missing; CONFIG_INVALID if the document was altered: its shares are right
   */
  async open(): Promise<Buffer> {
    if (this.missing > 0) {
      throw new KmsError(
        "INPUT_INVALID",
        `${this.missing} more of the ${this.sealed.threshold} shares needed`,
      );
    }
    const points = [...this.#points.values()].slice(0, this.sealed.threshold);
    this.#points.clear();
    // Not Buffers: the package accepts nothing but Uint8Array itself.
    const plain = points.map((point) => Uint8Array.from(point));
    try {
      const key = await combine(plain);
      const pin = openPin(this.sealed, key);
      key.fill(0);
      if (pin !== undefined) return pin;
    } finally {
      for (const bytes of [...points, ...plain]) bytes.fill(0);
    }
    const { set, epoch } = this.sealed;
    const text = `the sealed PIN of set ${set}, epoch ${epoch} does not open although every share is right: the file was altered`;
    throw new KmsError("CONFIG_INVALID", `${text}; restore it from a copy`);
  }

  /** Zeroes the shares. */
  clear(): void {
    for (const point of this.#points.values()) point.fill(0);
    this.#points.clear();
  }
}
