// Finds other keys on the tokens that hold the value of a KEK that is about to be destroyed. They do not prevent the
// destruction, since a check value of three bytes may be shared by chance and the operator may want the copy; but what is
// under the KEK can still be decrypted as long as they exist.
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/port.js";
import type { KekCopy } from "../hsm/wire-calls.js";
import { oneLine } from "../untrusted-text.js";
import type { Token } from "./command-tokens.js";
import type { Operator } from "./operator.js";

/** A key that has, or seems to have, the value of a KEK. */
export interface CopyOnToken extends KekCopy {
  readonly token: string;
}

/** Returns the copies of a KEK on all tokens, and warns of each, and of a token that cannot be searched. Never throws. */
export async function copiesOf(
  { keyId, aliases }: KekRecord,
  tokens: readonly Token[],
  operator: Pick<Operator, "notify">,
): Promise<readonly CopyOnToken[]> {
  const copies: CopyOnToken[] = [];
  for (const { name, hsm, failure } of tokens) {
    try {
      if (failure !== undefined) throw failure;
      const found = await hsm.findCopies([keyId, ...aliases]);
      copies.push(...found.map((copy) => ({ token: name, ...copy, label: oneLine(copy.label) })));
    } catch (error) {
      const { message } = KmsError.from(error);
      operator.notify(`warning: whether ${name} holds another copy of ${keyId} is not known: ${message}`);
    }
  }
  for (const copy of copies) operator.notify(`warning: ${describe(copy, keyId)}`);
  return copies;
}

function describe({ token, label, ckaId, sign }: CopyOnToken, keyId: string): string {
  const name = `"${label}" (CKA_ID ${ckaId === "" ? "none" : ckaId}) on ${token}`;
  const copy =
    sign === "check value"
      ? "has its check value, so it is probably a copy"
      : `has its ${sign}, so it is a copy`;
  return `${name} is not destroyed with ${keyId}, but ${copy}, and can decrypt what is under it; destroy it with the vendor's tool`;
}
