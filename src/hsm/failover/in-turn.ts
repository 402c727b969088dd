// Asks the tokens of a failover set one after the other, as far as another token may succeed where one has failed.
import { KmsError, type ErrorCode } from "../../errors.js";
import { meansHsmAway } from "../away.js";
import type { Hsm } from "../port.js";
import type { Member } from "./member.js";

/** Errors that another token might not return. */
const MAY_DIFFER: ReadonlySet<ErrorCode> = new Set(["OVERLOADED", "KEY_MISSING", "KEY_UNKNOWN"]);

/** Returns whether another token may succeed after this error. */
export function isWorthAnotherToken(error: KmsError): boolean {
  return meansHsmAway(error) || MAY_DIFFER.has(error.code);
}

/** The tokens to ask, in this order, and the KEK by the key_id under which they hold it. */
export interface Asked {
  readonly keyId: string;
  readonly members: readonly Member[];
}

/** Asks one token after the other. @throws KmsError of the last one, or the first that another token would return too */
export async function inTurn<T>({ keyId, members }: Asked, use: (hsm: Hsm) => Promise<T>): Promise<T> {
  let failure = new KmsError("HSM_UNAVAILABLE", "no token is configured");
  for (const member of members) {
    try {
      return await member.use(keyId, use);
    } catch (error) {
      failure = KmsError.from(error);
      if (!isWorthAnotherToken(failure)) throw failure;
    }
  }
  throw failure;
}
