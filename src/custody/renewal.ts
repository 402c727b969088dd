// Replaces the PIN of a token by a random one that nobody has seen, split among custodians in a new epoch. The token is
// never lost: the new sealed PIN is on disk, and its shares are confirmed, before the token is asked to change anything.
// Two files record how far it came: `.prepared` (shares are handed out; the token has not been asked) and `.next` (the token
// may have either PIN). After a kill, the PIN in force is found by trying: at most one PIN attempt each.
import { KmsError } from "../errors.js";
import { Gathering } from "./gathering.js";
import { requireSealedFor, type SealedPin } from "./sealed-pin.js";
import {
  commitPrepared,
  prepareSealedPin,
  publishNext,
  readNext,
  readPrepared,
  readSealedPin,
  withdrawNext,
} from "./sealed-pin-file.js";
import { splitPin, type SplitPin } from "./split.js";

/** The token whose PIN is replaced. */
export interface TokenOfPin {
  /**
   * Tries a PIN, with at most one PIN attempt. Returns why the token refuses it; undefined if it is in force.
   * @param name identifies the PIN in the record of attempts, across restarts
   * @param isOnlyOneLeft whether the token has refused the only other PIN that it can have
   * @throws KmsError if that is still unknown
   */
  refusalOf(pin: Buffer, name: string, isOnlyOneLeft: boolean): Promise<KmsError | undefined>;
  /**
   * Changes the PIN that `refusalOf` has found to be in force. Returns why the token refused; undefined if it reports
   * success.
   * @throws KmsError if the outcome is unknown
   */
  change(pin: Buffer, fresh: Buffer): Promise<KmsError | undefined>;
}

/** What a renewal needs from the operator. */
export interface Renewal {
  /** Path of the sealed PIN. */
  readonly path: string;
  readonly token: TokenOfPin;
  /** Takes shares until one of these sealed PINs can be opened, and returns it. @throws KmsError */
  readonly gather: (among: readonly Gathering[]) => Promise<Gathering>;
  /** How many shares the new PIN gets, and how many open it. */
  readonly plan: { readonly threshold: number; readonly shares: number };
  /** Returns a new PIN, which no record of refused PINs mistakes for the present one. The renewal zeroes it. */
  readonly choosePin: (present: Buffer) => Buffer;
  /** Hands out the shares, and resolves once their custodians have confirmed them. @throws KmsError CANCELLED */
  readonly handOut: (made: SplitPin) => Promise<void>;
  /** Called immediately before the token is asked; a renewal stops if it throws. */
  readonly begin: () => Promise<void>;
  readonly notify: (line: string) => void;
}

/** The PIN in force, and which sealed PIN holds it. */
interface InForce {
  readonly sealed: SealedPin;
  readonly pin: Buffer;
}

/** Renews a PIN, or finishes a renewal that was interrupted. Returns the sealed PIN in force. @throws KmsError */
export async function renewPin(renewal: Renewal): Promise<SealedPin> {
  const { path, notify } = renewal;
  const sealed = readSealedPin(path);
  const next = readNext(path);
  if (next !== undefined) requireSame(next, sealed, path);
  if (next !== undefined) {
    notify(
      `a renewal to epoch ${next.epoch} was interrupted; shares of epoch ${next.epoch} and ${sealed.epoch} count`,
    );
  }
  const found = await findInForce(renewal, next === undefined ? [sealed] : [sealed, next]);
  try {
    if (found.sealed === next) return finish(renewal, next);
    if (next !== undefined) {
      withdrawNext(path);
      notify(
        `the token still has the PIN of epoch ${sealed.epoch}: destroy the pages of epoch ${next.epoch}`,
      );
    }
    // Pages of an earlier attempt may exist; a later epoch makes them outdated.
    const prepared = readPrepared(path);
    const latest = prepared?.set === sealed.set ? Math.max(sealed.epoch, prepared.epoch) : sealed.epoch;
    return await replace(renewal, found, latest);
  } finally {
    found.pin.fill(0);
  }
}

/** Somebody who may write the folder may have put another file there. @throws KmsError CONFIG_INVALID */
function requireSame(next: SealedPin, sealed: SealedPin, path: string): void {
  requireSealedFor(next, sealed, `${path}.next`);
  if (next.set === sealed.set && next.epoch > sealed.epoch) return;
  const text = `${path}.next has set ${next.set}, epoch ${next.epoch}, and does not renew set ${sealed.set}, epoch ${sealed.epoch}`;
  throw new KmsError("CONFIG_INVALID", `${text}; find out who put it there`);
}

/** Tries the sealed PINs that the custodians open, one after the other. @throws KmsError PIN_REFUSED if the token has neither */
async function findInForce({ gather, token }: Renewal, sealed: readonly SealedPin[]): Promise<InForce> {
  let among = sealed.map((one) => new Gathering(one));
  const refusals: string[] = [];
  try {
    while (among.length > 0) {
      const gathering = await gather(among);
      among = among.filter((one) => one !== gathering);
      const pin = await gathering.open();
      const refusal = await token.refusalOf(pin, nameOf(gathering.sealed), refusals.length > 0);
      if (refusal === undefined) return { sealed: gathering.sealed, pin };
      pin.fill(0);
      refusals.push(`epoch ${gathering.sealed.epoch}: ${refusal.message}`);
    }
  } finally {
    for (const gathering of among) gathering.clear();
  }
  const text = "the token refuses the PIN of these shares, so somebody has changed it; nothing was changed";
  throw new KmsError("PIN_REFUSED", `${text} (${refusals.join("; ")})`);
}

async function replace(renewal: Renewal, { sealed, pin }: InForce, latest: number): Promise<SealedPin> {
  const { path, plan, handOut, begin, choosePin, token } = renewal;
  const fresh = choosePin(pin);
  try {
    const { set, token: name, role } = sealed;
    const made = await splitPin(fresh, { ...plan, token: name, role, before: { set, epoch: latest } });
    try {
      prepareSealedPin(path, made.sealed);
      await handOut(made);
    } finally {
      for (const { point } of made.shares) point.fill(0);
    }
    await begin();
    // Handing out the shares may have taken long: log in again, so that a session lost meanwhile does not make C_SetPIN fail.
    const refusal = await token.refusalOf(pin, nameOf(sealed), false);
    if (refusal !== undefined) throw refusal;
    commitPrepared(path);
    const asked = await ask(token, pin, fresh);
    if (asked.is === "refused") return giveUp(renewal, made.sealed, asked.reason);
    const order = [
      { sealed: made.sealed, pin: fresh },
      { sealed, pin },
    ];
    // If the answer was lost, the present PIN is tried first: unlike the new one, it cannot come into force after it was
    // refused.
    return await settle(renewal, made.sealed, asked.is === "done" ? order : order.reverse());
  } finally {
    fresh.fill(0);
  }
}

type Answer = { readonly is: "done" | "unknown" } | { readonly is: "refused"; readonly reason: KmsError };

async function ask(token: TokenOfPin, pin: Buffer, fresh: Buffer): Promise<Answer> {
  try {
    const reason = await token.change(pin, fresh);
    return reason === undefined ? { is: "done" } : { is: "refused", reason };
  } catch {
    return { is: "unknown" };
  }
}

/** Finds out which PIN the token has after it was asked to change it. @throws KmsError */
async function settle(renewal: Renewal, next: SealedPin, order: readonly InForce[]): Promise<SealedPin> {
  const refusals: string[] = [];
  for (const { sealed, pin } of order) {
    const refusal = await renewal.token
      .refusalOf(pin, nameOf(sealed), refusals.length > 0)
      .catch((error: unknown) => {
        const { code, message } = KmsError.from(error);
        const advice =
          "run custody renew again with the shares of both epochs: it finds out which PIN is in force";
        throw new KmsError(
          code,
          `the token does not say which PIN it has (${message}); keep all pages, and ${advice}`,
        );
      });
    if (refusal === undefined) {
      if (sealed === next) return finish(renewal, next);
      return giveUp(renewal, next, new KmsError("HSM_UNAVAILABLE", "the token did not carry it out"));
    }
    refusals.push(`epoch ${sealed.epoch}: ${refusal.message}`);
  }
  const text = "the token refuses both PINs after C_SetPIN; keep all pages and both files";
  throw new KmsError("PIN_REFUSED", `${text} (${refusals.join("; ")})`);
}

function finish({ path }: Renewal, next: SealedPin): SealedPin {
  publishNext(path);
  return next;
}

function giveUp({ path }: Renewal, next: SealedPin, reason: KmsError): never {
  withdrawNext(path);
  const text = `the PIN was not changed: ${reason.message}; destroy the pages of epoch ${next.epoch}`;
  throw new KmsError(reason.code, `${text}; the shares used so far stay valid`, reason);
}

function nameOf({ set, epoch }: SealedPin): string {
  return `the shares of set ${set}, epoch ${epoch}`;
}
