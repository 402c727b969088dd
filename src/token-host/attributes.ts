// Attributes of key objects. An attribute that a token does not have or does not reveal is "unknown", not an error:
// tokens differ in what they store (PKCS#11 v2.40 section 4.1, CKR_ATTRIBUTE_TYPE_INVALID).
import type { Handle } from "pkcs11js";
import { AlteredResult, type TokenFault } from "./ckr.js";
import { ATTRIBUTE_NOT_SHOWN, type TokenSession } from "./session.js";
import { isRefusal, tryCall } from "./refusal.js";

/**
 * Reads several attributes at once, or one by one if the token refuses that.
 * @param needed attributes whose failure is thrown; others may fail as long as any attribute can be read
 * @throws TokenFault when the object or the token fails
 */
export function readAttributes(
  session: TokenSession,
  object: Handle,
  types: readonly number[],
  needed: readonly number[] = types,
): ReadonlyMap<number, Buffer | undefined> {
  const read = tryCall(session, "reading attributes (C_GetAttributeValue)", (handle) =>
    session.lib.C_GetAttributeValue(
      handle,
      object,
      types.map((type) => ({ type })),
    ),
  );
  if (read.ok) return new Map(types.map((type, at) => [type, bytesOf(read.value[at]?.value)]));
  if (!isRefusal(read.fault)) throw read.fault;
  return readOneByOne(session, object, types, needed);
}

function readOneByOne(
  session: TokenSession,
  object: Handle,
  types: readonly number[],
  needed: readonly number[],
): ReadonlyMap<number, Buffer | undefined> {
  const values = new Map<number, Buffer | undefined>();
  let failure: TokenFault | undefined;
  let shown = 0;
  for (const type of types) {
    const read = tryCall(
      session,
      `reading attribute 0x${type.toString(16)} (C_GetAttributeValue)`,
      (handle) => session.lib.C_GetAttributeValue(handle, object, [{ type }]),
    );
    values.set(type, read.ok ? bytesOf(read.value[0]?.value) : undefined);
    if (read.ok) shown++;
    else if (ATTRIBUTE_NOT_SHOWN.has(read.fault.rv)) continue;
    else if (!isRefusal(read.fault) || needed.includes(type)) throw read.fault;
    else failure ??= read.fault;
  }
  if (failure !== undefined && shown === 0) throw failure;
  return values;
}

/** Maximum number of readings until two results agree. */
const MOST_READINGS = 3;

/**
 * Reads attributes until two results agree: an altered CKA_ID would change the key_id, and an altered label the
 * activation instant.
 * @throws TokenFault AlteredResult when no two agree
 */
export function readSteadily(
  session: TokenSession,
  object: Handle,
  types: readonly number[],
  needed: readonly number[] = types,
): ReadonlyMap<number, Buffer | undefined> {
  const readings: ReadonlyMap<number, Buffer | undefined>[] = [];
  while (readings.length < MOST_READINGS) {
    const now = readAttributes(session, object, types, needed);
    if (readings.some((earlier) => types.every((type) => isSame(earlier.get(type), now.get(type))))) {
      return now;
    }
    readings.push(now);
  }
  throw new AlteredResult("the token returns different attributes for the same key each time");
}

function isSame(one: Buffer | undefined, other: Buffer | undefined): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other);
}

function bytesOf(value: unknown): Buffer | undefined {
  return Buffer.isBuffer(value) ? value : undefined;
}

/** Returns a CK_BBOOL, of one byte or, from some libraries, of the length of a CK_ULONG; undefined if unknown. */
export function asBoolean(value: Buffer | undefined): boolean | undefined {
  return value === undefined || value.length === 0 ? undefined : value.some((byte) => byte !== 0);
}

/** Returns a CK_ULONG of 8 or 4 bytes in host order; undefined if unknown or CK_UNAVAILABLE_INFORMATION. */
export function asNumber(value: Buffer | undefined): number | undefined {
  if (value?.length === 8) {
    const wide = value.readBigUInt64LE(0);
    return wide > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(wide);
  }
  return value?.length === 4 ? value.readUInt32LE(0) : undefined;
}
