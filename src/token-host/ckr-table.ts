// Every return value of PKCS#11 v2.40 (section 11.1) and of v3.0 to v3.2, with its meaning here: the fault class
// decides what the plugin does, the error code what the caller receives. A value that is not in the table is reported
// by its number and treated as a broken module.
import type { ErrorCode } from "../errors.js";
import type { FaultClass } from "../hsm/fault.js";

interface CkrRow {
  readonly name: string;
  readonly fault: FaultClass;
  readonly code: ErrorCode;
}

const input = (name: string): CkrRow => ({ name, fault: "input", code: "NOT_AUTHENTIC" });
const session = (name: string): CkrRow => ({ name, fault: "session", code: "SESSION_LOST" });
const login = (name: string): CkrRow => ({ name, fault: "login", code: "SESSION_LOST" });
const object = (name: string): CkrRow => ({ name, fault: "object", code: "KEY_MISSING" });
const device = (name: string): CkrRow => ({ name, fault: "device", code: "HSM_UNAVAILABLE" });
const pin = (name: string): CkrRow => ({ name, fault: "setup", code: "PIN_REFUSED" });
const mechanism = (name: string): CkrRow => ({ name, fault: "setup", code: "MECHANISM_UNSUPPORTED" });
const key = (name: string): CkrRow => ({ name, fault: "setup", code: "KEY_UNSUITABLE" });
const refused = (name: string): CkrRow => ({ name, fault: "setup", code: "TOKEN_REFUSED" });
const capacity = (name: string): CkrRow => ({ name, fault: "capacity", code: "HSM_UNAVAILABLE" });

/** The meaning of each CK_RV of the standard. */
export const CKR_TABLE: Readonly<Record<number, CkrRow>> = {
  0x01: device("CKR_CANCEL"),
  0x02: device("CKR_HOST_MEMORY"),
  0x03: device("CKR_SLOT_ID_INVALID"),
  0x05: device("CKR_GENERAL_ERROR"),
  0x06: device("CKR_FUNCTION_FAILED"),
  0x07: device("CKR_ARGUMENTS_BAD"),
  0x08: device("CKR_NO_EVENT"),
  0x09: device("CKR_NEED_TO_CREATE_THREADS"),
  0x0a: device("CKR_CANT_LOCK"),
  0x10: refused("CKR_ATTRIBUTE_READ_ONLY"),
  0x11: refused("CKR_ATTRIBUTE_SENSITIVE"),
  0x12: refused("CKR_ATTRIBUTE_TYPE_INVALID"),
  0x13: refused("CKR_ATTRIBUTE_VALUE_INVALID"),
  0x1b: refused("CKR_ACTION_PROHIBITED"),
  0x20: input("CKR_DATA_INVALID"),
  0x21: input("CKR_DATA_LEN_RANGE"),
  0x30: device("CKR_DEVICE_ERROR"),
  0x31: device("CKR_DEVICE_MEMORY"),
  0x32: device("CKR_DEVICE_REMOVED"),
  0x40: input("CKR_ENCRYPTED_DATA_INVALID"),
  0x41: input("CKR_ENCRYPTED_DATA_LEN_RANGE"),
  0x42: input("CKR_AEAD_DECRYPT_FAILED"),
  0x50: session("CKR_FUNCTION_CANCELED"),
  0x51: session("CKR_FUNCTION_NOT_PARALLEL"),
  0x54: mechanism("CKR_FUNCTION_NOT_SUPPORTED"),
  0x60: object("CKR_KEY_HANDLE_INVALID"),
  0x62: key("CKR_KEY_SIZE_RANGE"),
  0x63: key("CKR_KEY_TYPE_INCONSISTENT"),
  0x64: key("CKR_KEY_NOT_NEEDED"),
  0x65: key("CKR_KEY_CHANGED"),
  0x66: key("CKR_KEY_NEEDED"),
  0x67: key("CKR_KEY_INDIGESTIBLE"),
  0x68: key("CKR_KEY_FUNCTION_NOT_PERMITTED"),
  0x69: key("CKR_KEY_NOT_WRAPPABLE"),
  0x6a: key("CKR_KEY_UNEXTRACTABLE"),
  0x70: mechanism("CKR_MECHANISM_INVALID"),
  0x71: mechanism("CKR_MECHANISM_PARAM_INVALID"),
  0x82: object("CKR_OBJECT_HANDLE_INVALID"),
  0x90: session("CKR_OPERATION_ACTIVE"),
  0x91: session("CKR_OPERATION_NOT_INITIALIZED"),
  0xa0: pin("CKR_PIN_INCORRECT"),
  0xa1: pin("CKR_PIN_INVALID"),
  0xa2: pin("CKR_PIN_LEN_RANGE"),
  0xa3: pin("CKR_PIN_EXPIRED"),
  0xa4: pin("CKR_PIN_LOCKED"),
  0xb0: session("CKR_SESSION_CLOSED"),
  0xb1: capacity("CKR_SESSION_COUNT"),
  0xb3: session("CKR_SESSION_HANDLE_INVALID"),
  0xb4: session("CKR_SESSION_PARALLEL_NOT_SUPPORTED"),
  0xb5: refused("CKR_SESSION_READ_ONLY"),
  0xb6: session("CKR_SESSION_EXISTS"),
  0xb7: refused("CKR_SESSION_READ_ONLY_EXISTS"),
  0xb8: refused("CKR_SESSION_READ_WRITE_SO_EXISTS"),
  0xc0: input("CKR_SIGNATURE_INVALID"),
  0xc1: input("CKR_SIGNATURE_LEN_RANGE"),
  0xd0: refused("CKR_TEMPLATE_INCOMPLETE"),
  0xd1: refused("CKR_TEMPLATE_INCONSISTENT"),
  0xe0: device("CKR_TOKEN_NOT_PRESENT"),
  0xe1: device("CKR_TOKEN_NOT_RECOGNIZED"),
  0xe2: refused("CKR_TOKEN_WRITE_PROTECTED"),
  0xf0: key("CKR_UNWRAPPING_KEY_HANDLE_INVALID"),
  0xf1: key("CKR_UNWRAPPING_KEY_SIZE_RANGE"),
  0xf2: key("CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT"),
  0x100: login("CKR_USER_ALREADY_LOGGED_IN"),
  0x101: login("CKR_USER_NOT_LOGGED_IN"),
  0x102: { name: "CKR_USER_PIN_NOT_INITIALIZED", fault: "setup", code: "PIN_REFUSED" },
  0x103: refused("CKR_USER_TYPE_INVALID"),
  0x104: refused("CKR_USER_ANOTHER_ALREADY_LOGGED_IN"),
  0x105: refused("CKR_USER_TOO_MANY_TYPES"),
  0x110: input("CKR_WRAPPED_KEY_INVALID"),
  0x112: input("CKR_WRAPPED_KEY_LEN_RANGE"),
  0x113: key("CKR_WRAPPING_KEY_HANDLE_INVALID"),
  0x114: key("CKR_WRAPPING_KEY_SIZE_RANGE"),
  0x115: key("CKR_WRAPPING_KEY_TYPE_INCONSISTENT"),
  0x120: device("CKR_RANDOM_SEED_NOT_SUPPORTED"),
  0x121: device("CKR_RANDOM_NO_RNG"),
  0x130: mechanism("CKR_DOMAIN_PARAMS_INVALID"),
  0x140: mechanism("CKR_CURVE_NOT_SUPPORTED"),
  0x150: session("CKR_BUFFER_TOO_SMALL"),
  0x160: refused("CKR_SAVED_STATE_INVALID"),
  0x170: refused("CKR_INFORMATION_SENSITIVE"),
  0x180: refused("CKR_STATE_UNSAVEABLE"),
  0x190: device("CKR_CRYPTOKI_NOT_INITIALIZED"),
  0x191: device("CKR_CRYPTOKI_ALREADY_INITIALIZED"),
  0x1a0: device("CKR_MUTEX_BAD"),
  0x1a1: device("CKR_MUTEX_NOT_LOCKED"),
  0x1b0: refused("CKR_NEW_PIN_MODE"),
  0x1b1: refused("CKR_NEXT_OTP"),
  0x1b5: refused("CKR_EXCEEDED_MAX_ITERATIONS"),
  0x1b6: device("CKR_FIPS_SELF_TEST_FAILED"),
  0x1b7: device("CKR_LIBRARY_LOAD_FAILED"),
  0x1b8: pin("CKR_PIN_TOO_WEAK"),
  0x1b9: refused("CKR_PUBLIC_KEY_INVALID"),
  0x200: session("CKR_FUNCTION_REJECTED"),
  0x201: capacity("CKR_TOKEN_RESOURCE_EXCEEDED"),
  0x202: session("CKR_OPERATION_CANCEL_FAILED"),
  0x203: key("CKR_KEY_EXHAUSTED"),
  0x204: session("CKR_PENDING"),
  0x205: refused("CKR_SESSION_ASYNC_NOT_SUPPORTED"),
  0x206: refused("CKR_SEED_RANDOM_REQUIRED"),
  0x207: refused("CKR_OPERATION_NOT_VALIDATED"),
  0x208: device("CKR_TOKEN_NOT_INITIALIZED"),
  0x209: mechanism("CKR_PARAMETER_SET_NOT_SUPPORTED"),
};

/** Returns a CK_RV in hexadecimal. A broken module's -1 arrives as 2^64, the nearest double, which is no CK_ULONG. */
export function hexOf(rv: number): string {
  return rv >= 2 ** 64 ? "0xffffffffffffffff" : `0x${rv.toString(16)}`;
}

/** Returns the row of a CK_RV; unknown and vendor-defined values count as a broken module. */
export function rowOf(rv: number): CkrRow {
  return CKR_TABLE[rv] ?? device(`CK_RV ${hexOf(rv)}`);
}
