// What the information functions of PKCS#11 return about library, slot and token (v2.40 sections 5.4 and 5.5).
import type { PKCS11, Version } from "pkcs11js";
import type { TokenFacts } from "../../hsm/wire-trials.js";
import { maskControls } from "../../untrusted-text.js";
import { unpad } from "../slots.js";
import { listedMechanisms, type TokenSession } from "../session.js";
import { toFault } from "../ckr.js";

/**
 * Reads the facts. @throws TokenFault when the token cannot be read; a library or slot that cannot be read is not an error
 */
export function readFacts(session: TokenSession): TokenFacts {
  const { lib, slot } = session;
  try {
    const token = lib.C_GetTokenInfo(slot);
    return {
      ...libraryFacts(lib),
      ...slotFacts(lib, slot),
      token: {
        label: text(token.label),
        serial: text(token.serialNumber),
        manufacturer: text(token.manufacturerID),
        model: text(token.model),
        hardware: version(token.hardwareVersion),
        firmware: version(token.firmwareVersion),
        flags: hex(token.flags),
        maxSessions: token.maxSessionCount,
        pinBytes: [token.minPinLen, token.maxPinLen],
      },
      mechanisms: [...(listedMechanisms(session) ?? [])].sort((a, b) => a - b).map(hex),
    };
  } catch (error) {
    throw toFault(error, "reading the token (C_GetTokenInfo)");
  }
}

function libraryFacts(lib: PKCS11): Pick<TokenFacts, "library"> {
  try {
    const library = lib.C_GetInfo();
    return {
      library: {
        manufacturer: text(library.manufacturerID),
        description: text(library.libraryDescription),
        version: version(library.libraryVersion),
        cryptoki: version(library.cryptokiVersion),
      },
    };
  } catch {
    return {};
  }
}

function slotFacts(lib: PKCS11, handle: TokenSession["slot"]): Pick<TokenFacts, "slot"> {
  try {
    const slot = lib.C_GetSlotInfo(handle);
    return {
      slot: {
        description: text(slot.slotDescription),
        manufacturer: text(slot.manufacturerID),
        hardware: version(slot.hardwareVersion),
        firmware: version(slot.firmwareVersion),
        flags: hex(slot.flags),
      },
    };
  } catch {
    return {};
  }
}

function text(padded: string): string {
  return maskControls(unpad(padded));
}

function version({ major, minor }: Version): string {
  return `${major}.${minor}`;
}

function hex(number: number): string {
  return `0x${number.toString(16)}`;
}
