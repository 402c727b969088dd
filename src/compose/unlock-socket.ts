// Listens on a token's unlock socket: for a PIN, for custodians' shares, and for the order to lock the plugin. A PIN never
// holds a zero byte, so a message that begins with one is an order.
import { checkPin, MAX_PIN_BYTES } from "../config/read-pin.js";
import type { AuditEvent } from "../audit/line.js";
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { startUnlock, type RunningUnlock } from "../server/unlock.js";
import type { PluginLock } from "./lock.js";
import type { ShareUnlock, TryPin } from "./share-unlock.js";
import { tryPin, type LockedToken } from "./tokens.js";

/** Longest order in bytes: its name, a nonce and a share as it was typed. */
const MAX_ORDER_BYTES = 512;
const SPACE = 0x20;

/** What the socket needs from the plugin. */
export interface UnlockSocketOptions {
  readonly token: LockedToken;
  readonly lock: PluginLock;
  readonly record: (event: AuditEvent) => void;
  readonly log: Log;
}

const BEING_LOCKED = "the plugin is being locked, so the PIN was forgotten; enter it again afterwards";

/** Listens for the PIN of a token, and logs when no operator can submit it. @throws KmsError SOCKET_UNUSABLE */
export async function startUnlocking(options: UnlockSocketOptions): Promise<RunningUnlock> {
  const { token, lock, log } = options;
  const { path } = token.source;
  const unlock: TryPin = async (pin, outdated) => {
    if (lock.isInProgress) {
      pin.fill(0);
      return { unlocked: false, message: BEING_LOCKED };
    }
    const answer = await tryPin(pin, token, outdated);
    if (answer.unlocked) lock.unlocked();
    return answer;
  };
  const shares = await openShares(options, unlock);
  return startUnlock({
    path,
    observe: (problem) => {
      if (problem === undefined) log.info({ socket: path }, "operators can submit a PIN again");
      else log.warn({ socket: path }, problem);
    },
    // Including the line break that ends a file.
    maxPinBytes: MAX_PIN_BYTES + 2,
    take: (bytes) => unlock(checkPin(bytes, token.source)),
    orders: { maxBytes: MAX_ORDER_BYTES, obey: (order) => obey(order, lock, shares) },
  });
}

/** Returns undefined if the configuration names no sealed PIN; then none of that code is loaded. */
async function openShares(
  { token, lock, record, log }: UnlockSocketOptions,
  unlock: TryPin,
): Promise<ShareUnlock | undefined> {
  const { sealed } = token.source;
  if (sealed === undefined) return undefined;
  const { ShareUnlock: Shares } = await import("./share-unlock.js");
  const shares = new Shares({
    token: token.settings,
    path: sealed,
    isLoggedIn: () => token.hsm.readyHosts === token.hosts,
    tryPin: unlock,
    record: (event) => {
      record({ event: "share", ...event });
      log.info(event, "a share was submitted");
    },
  });
  lock.onLock(() => {
    shares.clear();
  });
  return shares;
}

/** Carries out an order: "lock", "shares", or "share", a nonce and a share. The order is zeroed. */
async function obey(order: Buffer, lock: PluginLock, shares: ShareUnlock | undefined): Promise<object> {
  const end = order.indexOf(SPACE);
  const name = order.toString("latin1", 0, end < 0 ? order.length : end);
  if (name === "lock") return lock.lock();
  if (name !== "shares" && name !== "share") {
    throw new KmsError(
      "INPUT_INVALID",
      "this plugin does not know the order; use its own release of kms-pkcs11",
    );
  }
  if (shares === undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      "this plugin has no sealed PIN; set pin.custody, or unlock it with the PIN",
    );
  }
  if (name === "shares") return shares.begin();
  const at = order.indexOf(SPACE, end + 1);
  const nonce = order.toString("latin1", end + 1, at < 0 ? order.length : at);
  return shares.add(nonce, order.subarray(at < 0 ? order.length : at + 1));
}
