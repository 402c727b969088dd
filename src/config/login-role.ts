// The role that logs in to a token: the user type that C_Login receives (PKCS#11 v2.40 section 5.6). Vendors have roles
// of their own, such as one that may use keys but not make or destroy them.
import { invalid } from "./invalid.js";

/** Thales Luna 7 names its number CKU_LIMITED_USER. */
const USER_TYPES: Readonly<Record<string, number>> = { user: 1, "crypto-user": 0x8000_0001 };
const LARGEST = 0xffff_ffff;

/** CKU_USER. */
export const USER = 1;

/** Returns the user type of a role. @throws KmsError CONFIG_INVALID for the security officer (0), who may use no key */
export function parseRole(text: string): number {
  const known = USER_TYPES[text];
  if (known !== undefined) return known;
  const number = /^(?:0x[0-9a-f]{1,8}|[0-9]{1,10})$/i.test(text) ? Number(text) : 0;
  if (number > 0 && number <= LARGEST) return number;
  throw invalid(
    "is not a role; give user, crypto-user, or the vendor's number of a user type such as 0x80000001",
  );
}

/** Returns a role as it is written in the configuration. */
export function describeRole(userType: number): string {
  const known = Object.entries(USER_TYPES).find(([, number]) => number === userType);
  return known?.[0] ?? `0x${userType.toString(16)}`;
}
