// The vendor library: loaded once a thread, initialised once a process, and the slot that holds the token.
// PKCS#11 v2.40 sections 5.4 and 5.5. graphene-pk11 does the looking around; the request path uses its
// pkcs11js object directly.
import { Module, type Slot, type Token } from "graphene-pk11";
import pkcs11js from "pkcs11js";
import type { OpenRequest, TokenDescription, TokenSelector } from "../hsm/wire.js";
import { rvOf, toFault, TokenFault } from "./ckr.js";

const CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191;

// pkcs11js unloads a library whose object is collected, under whatever sessions are open: keep it reachable.
let loaded: Module | undefined;

/**
 * Loads and initialises the library. Threads of one process must do this one after another: two at once in
 * C_Initialize crash pkcs11js 2.1.7.
 * @throws TokenFault MODULE_UNUSABLE when it is no PKCS#11 module; the CKR row of a refused C_Initialize
 */
export function loadModule(request: OpenRequest): Module {
  loaded = load(request.modulePath);
  try {
    loaded.initialize({
      flags: pkcs11js.CKF_OS_LOCKING_OK,
      // pkcs11js 2.1.7 drops the last character of the string.
      ...(request.moduleParameters === undefined
        ? {}
        : { libraryParameters: request.moduleParameters + " " }),
    });
  } catch (error) {
    if (rvOf(error) !== CKR_CRYPTOKI_ALREADY_INITIALIZED) {
      throw toFault(error, `initialising ${request.modulePath} (C_Initialize)`);
    }
  }
  return loaded;
}

function load(path: string): Module {
  try {
    return Module.load(path);
  } catch (error) {
    const detail = error instanceof Error ? error.message.split("\n", 1)[0] : "";
    throw new TokenFault(
      "setup",
      "MODULE_UNUSABLE",
      `cannot load the PKCS#11 module ${path}: ${detail ?? ""}; install the vendor's client or correct module-path`,
      undefined,
      error,
    );
  }
}

/**
 * Finds the one slot whose token matches.
 * @throws TokenFault HSM_UNAVAILABLE when the module shows no token at all (a network token's server may be
 * down), TOKEN_NOT_FOUND when no token or more than one matches
 */
export function findSlot(module: Module, selector: TokenSelector): Slot {
  const slots = listSlots(module);
  const matching = slots.filter(({ slot, token }) => matches(slot, token, selector));
  if (matching.length === 1 && matching[0] !== undefined) return matching[0].slot;
  const wanted = describeSelector(selector);
  if (slots.length === 0) {
    throw new TokenFault(
      "device",
      "HSM_UNAVAILABLE",
      `the PKCS#11 module shows no token; check that the HSM is reachable and initialised (wanted ${wanted})`,
    );
  }
  const labelled = slots.filter(({ token }) => unpad(token.label) !== "");
  const shown = labelled.map(({ token }) =>
    printable(`"${unpad(token.label)}" (serial ${unpad(token.serialNumber)})`),
  );
  const problem = matching.length === 0 ? `no token matches ${wanted}` : `several tokens match ${wanted}`;
  throw new TokenFault(
    "device",
    "TOKEN_NOT_FOUND",
    `${problem}; the module shows ${shown.join(", ") || "no labelled token"}; correct the token attributes of the URI`,
  );
}

function listSlots(module: Module): { slot: Slot; token: Token }[] {
  const found: { slot: Slot; token: Token }[] = [];
  try {
    const slots = module.getSlots(true);
    for (let at = 0; at < slots.length; at++) {
      const slot = slots.items(at);
      const token = tokenOf(slot);
      if (token !== undefined) found.push({ slot, token });
    }
  } catch (error) {
    throw toFault(error, "listing slots (C_GetSlotList)");
  }
  return found;
}

/** A slot whose token cannot be read (removed, not recognised) is passed over: another may be ours. */
function tokenOf(slot: Slot): Token | undefined {
  try {
    return slot.getToken();
  } catch {
    return undefined;
  }
}

function matches(slot: Slot, token: Token, wanted: TokenSelector): boolean {
  const same = (want: string | undefined, have: string): boolean =>
    want === undefined || want === unpad(have);
  return (
    same(wanted.token, token.label) &&
    same(wanted.serial, token.serialNumber) &&
    same(wanted.manufacturer, token.manufacturerID) &&
    same(wanted.model, token.model) &&
    (wanted.slotId === undefined || wanted.slotId === slotIdOf(slot))
  );
}

function describeSelector(selector: TokenSelector): string {
  const parts = Object.entries(selector).map(([name, value]) => `${name}=${String(value)}`);
  return parts.length === 0 ? "any token" : parts.join(";");
}

/** Text fields are padded with spaces to their width, by some libraries with NULs (section 2.3). */
export function unpad(text: string): string {
  return text.replace(/[\0 ]+$/u, "");
}

/** Without what a terminal or a log would obey: control, format and other characters that show nothing. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
}

export function slotIdOf(slot: Slot): number {
  return Number(slot.handle.readBigUInt64LE(0));
}

/** The CK_SLOT_ID as pkcs11js takes it. */
export function slotHandle(slotId: number): Buffer {
  const handle = Buffer.alloc(8);
  handle.writeBigUInt64LE(BigInt(slotId));
  return handle;
}

/** Reads CK_TOKEN_INFO afresh, PIN flags included. */
export function describeToken(module: Module, slotId: number, loggedIn: boolean): TokenDescription {
  try {
    const info = module.lib.C_GetTokenInfo(slotHandle(slotId));
    const has = (flag: number): boolean => (info.flags & flag) !== 0;
    return {
      label: printable(unpad(info.label)),
      serial: printable(unpad(info.serialNumber)),
      manufacturer: printable(unpad(info.manufacturerID)),
      model: printable(unpad(info.model)),
      slotId,
      loginRequired: has(pkcs11js.CKF_LOGIN_REQUIRED),
      loggedIn,
      pinCountLow: has(pkcs11js.CKF_USER_PIN_COUNT_LOW),
      pinFinalTry: has(pkcs11js.CKF_USER_PIN_FINAL_TRY),
      pinLocked: has(pkcs11js.CKF_USER_PIN_LOCKED),
      protectedAuthenticationPath: has(pkcs11js.CKF_PROTECTED_AUTHENTICATION_PATH),
      library: `${printable(unpad(module.libraryDescription))} ${String(module.libraryVersion.major)}.${String(module.libraryVersion.minor)}`,
    };
  } catch (error) {
    throw toFault(error, "reading the token (C_GetTokenInfo)");
  }
}
