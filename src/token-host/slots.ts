// The slot that holds the token, and what the token reports about itself. PKCS#11 v2.40 section 5.5.
import pkcs11js, { type Handle, type PKCS11, type TokenInfo } from "pkcs11js";
import type { TokenDescription, TokenSelector } from "../hsm/port.js";
import { hexOf, rowOf } from "./ckr-table.js";
import { rvOf, toFault, TokenFault } from "./ckr.js";
import { maskControls } from "../untrusted-text.js";

const CKR_TOKEN_NOT_PRESENT = 0xe0;

interface ShownToken {
  readonly slotId: number;
  readonly info: TokenInfo;
}

interface ShownSlots {
  readonly tokens: readonly ShownToken[];
  /** Slots whose token cannot be read, such as "slot 3 could not be read: CKR_DEVICE_ERROR (0x30)". */
  readonly unreadable: readonly string[];
}

const OWN_CONFIGURATION =
  "the library finds its own configuration (often a file that an environment variable names, such as SOFTHSM2_CONF)";

/**
 * Finds the one slot whose token matches, and returns its number.
 * @throws TokenFault HSM_UNAVAILABLE when the module shows no token at all (a network token's server may be
 * down), TOKEN_NOT_FOUND when no token or more than one matches
 */
export function findSlot(lib: PKCS11, selector: TokenSelector): number {
  const { tokens, unreadable } = readSlots(lib, selector.slotId);
  const matching = tokens.filter((token) => matches(token, selector));
  if (matching.length === 1 && matching[0] !== undefined) return matching[0].slotId;
  const wanted = describeSelector(selector);
  const notRead = unreadable.map((slot) => `; ${slot}`).join("");
  if (tokens.length === 0) {
    throw new TokenFault(
      `the PKCS#11 module shows no token${notRead}; check that the HSM is reachable and initialised, and that ${OWN_CONFIGURATION} (wanted ${wanted})`,
      { fault: "device", code: "HSM_UNAVAILABLE" },
    );
  }
  const problem =
    matching.length === 0
      ? `no token matches ${wanted}; ${nextToNone(listTokens(tokens), notRead)}`
      : `several tokens match ${wanted}: ${listTokens(matching)}; ${waysToTellApart(matching)}`;
  throw new TokenFault(problem, { fault: "device", code: "TOKEN_NOT_FOUND" });
}

/** Without labelled tokens, the URI is rarely wrong: the library looks in another place, or nothing is initialised. */
function nextToNone(shown: string, notRead: string): string {
  return shown === ""
    ? `the module shows no labelled token${notRead}; check that ${OWN_CONFIGURATION}, and that a token is initialised`
    : `the module shows ${shown}${notRead}; correct the token attributes of the URI`;
}

function listTokens(tokens: readonly ShownToken[]): string {
  return tokens
    .filter(({ info }) => unpad(info.label) !== "")
    .map(({ info }) => maskControls(`"${unpad(info.label)}" (serial ${unpad(info.serialNumber)})`))
    .join(", ");
}

function waysToTellApart(matching: readonly ShownToken[]): string {
  const serials = matching.map(({ info }) => unpad(info.serialNumber));
  const [serial = ""] = serials;
  if (new Set(serials).size === serials.length && !serials.includes("")) {
    return `add serial=... to the URI, such as serial=${encodeURIComponent(maskControls(serial))}`;
  }
  // Slot numbers may change, but nothing else distinguishes these tokens.
  const slots = matching.map(({ slotId }) => `slot-id=${slotId}`).join(" or ");
  return `their serial numbers are not distinct: give the tokens different labels, or add ${slots} to the URI`;
}

/**
 * Reads the token of every slot, or of the requested slot alone if that exists. Does not call C_GetSlotInfo, which
 * fails on some slots of other applications.
 */
function readSlots(lib: PKCS11, only: number | undefined): ShownSlots {
  let slots: Handle[];
  try {
    slots = lib.C_GetSlotList(true);
  } catch (error) {
    throw toFault(error, "listing slots (C_GetSlotList)");
  }
  const one = slots.find((slot) => slotIdOf(slot) === only);
  const tokens: ShownToken[] = [];
  const unreadable: string[] = [];
  for (const slot of one === undefined ? slots : [one]) {
    try {
      tokens.push({ slotId: slotIdOf(slot), info: lib.C_GetTokenInfo(slot) });
    } catch (error) {
      const rv = rvOf(error);
      if (rv !== CKR_TOKEN_NOT_PRESENT) unreadable.push(notReadable(slotIdOf(slot), rv));
    }
  }
  return { tokens, unreadable };
}

function notReadable(slotId: number, rv: number | undefined): string {
  const why = rv === undefined ? "the call failed" : `${rowOf(rv).name} (${hexOf(rv)})`;
  return `slot ${slotId} could not be read: ${why}`;
}

function matches({ slotId, info }: ShownToken, wanted: TokenSelector): boolean {
  // A blank at the end of a label cannot be distinguished from padding; a blank at the beginning counts.
  const same = (want: string | undefined, have: string): boolean =>
    want === undefined || unpad(want) === unpad(have);
  return (
    same(wanted.token, info.label) &&
    same(wanted.serial, info.serialNumber) &&
    same(wanted.manufacturer, info.manufacturerID) &&
    same(wanted.model, info.model) &&
    (wanted.slotId === undefined || wanted.slotId === slotId)
  );
}

function describeSelector(selector: TokenSelector): string {
  const parts = Object.entries(selector).map(([name, value]) => `${name}=${String(value)}`);
  return parts.length === 0 ? "any token" : parts.join(";");
}

/** Removes the padding of a text field: spaces, in some libraries NULs (section 2.3). */
export function unpad(text: string): string {
  return text.replace(/[\0 ]+$/u, "");
}

/** Returns the number in a CK_SLOT_ID of pkcs11js. */
function slotIdOf(slot: Handle): number {
  return Number(slot.readBigUInt64LE(0));
}

/** Returns a CK_SLOT_ID in the form that pkcs11js expects. */
export function slotHandle(slotId: number): Buffer {
  const handle = Buffer.alloc(8);
  handle.writeBigUInt64LE(BigInt(slotId));
  return handle;
}

/** Reads CK_TOKEN_INFO, including the PIN flags. @throws TokenFault */
export function describeToken(lib: PKCS11, slotId: number, loggedIn: boolean): TokenDescription {
  try {
    const info = lib.C_GetTokenInfo(slotHandle(slotId));
    const has = (flag: number): boolean => (info.flags & flag) !== 0;
    return {
      label: maskControls(unpad(info.label)),
      serial: maskControls(unpad(info.serialNumber)),
      manufacturer: maskControls(unpad(info.manufacturerID)),
      model: maskControls(unpad(info.model)),
      slotId,
      loginRequired: has(pkcs11js.CKF_LOGIN_REQUIRED),
      loggedIn,
      pinCountLow: has(pkcs11js.CKF_USER_PIN_COUNT_LOW),
      pinFinalTry: has(pkcs11js.CKF_USER_PIN_FINAL_TRY),
      pinLocked: has(pkcs11js.CKF_USER_PIN_LOCKED),
      ...limitOf(info.maxSessionCount),
      ...pinLimitsOf(info),
      protectedAuthenticationPath: has(pkcs11js.CKF_PROTECTED_AUTHENTICATION_PATH),
      library: describeLibrary(lib),
    };
  } catch (error) {
    throw toFault(error, "reading the token (C_GetTokenInfo)");
  }
}

/** Returns the library's description and version, which nothing depends on; empty if it does not report them. */
function describeLibrary(lib: PKCS11): string {
  try {
    const { libraryDescription, libraryVersion } = lib.C_GetInfo();
    return `${maskControls(unpad(libraryDescription))} ${libraryVersion.major}.${libraryVersion.minor}`;
  } catch {
    return "";
  }
}

/** A token that does not report its limits gives impossible ones: a maximum of 0, or CK_UNAVAILABLE_INFORMATION. */
function pinLimitsOf({
  minPinLen,
  maxPinLen,
}: TokenInfo): Pick<TokenDescription, "minPinBytes" | "maxPinBytes"> {
  if (maxPinLen <= 0 || minPinLen > maxPinLen || maxPinLen >= 0xffff_ffff) return {};
  return { minPinBytes: minPinLen, maxPinBytes: maxPinLen };
}

/** CK_EFFECTIVELY_INFINITE is 0, and CK_UNAVAILABLE_INFORMATION is larger than any real limit. */
function limitOf(sessions: number): Pick<TokenDescription, "maxSessions"> {
  return sessions > 0 && sessions < 0xffff_ffff ? { maxSessions: sessions } : {};
}
