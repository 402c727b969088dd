// Clones of a new KEK on the other tokens of a configuration: this program cannot make them, since the key never
// leaves the HSM that made it; it says what is to be done, and waits until it is.
import type { KekRecord } from "../hsm/port.js";
import { waitForConvergence } from "./convergence.js";
import { untilInterrupted } from "./interrupts.js";
import type { Operator } from "./operator.js";
import { look, type Place } from "./places.js";
import type { Token } from "./command-tokens.js";

/** A library that caches its token's objects is loaded anew this often, in looks. */
const ANEW_EVERY = 10;

/** Looks at tokens and nodes again and again. */
export function repeatedLook(
  kek: KekRecord,
  tokens: readonly Token[],
  nodes: readonly URL[],
): () => Promise<Place[]> {
  let looks = 0;
  return () => look(kek, tokens, nodes, ++looks % ANEW_EVERY === 0);
}

/** Returns how the tokens stood at the end. @param until ms since the epoch */
export async function waitForClones(
  kek: KekRecord,
  tokens: readonly Token[],
  until: number,
  operator: Operator,
): Promise<readonly Place[]> {
  return untilInterrupted(async (signal) => {
    const wait = { look: repeatedLook(kek, tokens, []), until, toTheEnd: false, signal, operator };
    return (await waitForConvergence(wait)).places;
  });
}

/** What the operator has to do now. */
export function cloneAdvice({ label, ckaId, keyId }: KekRecord, tokens: readonly Token[]): string {
  const [preferred, ...others] = tokens.map(({ name }) => name);
  return (
    `clone "${label}" (CKA_ID ${ckaId === "" ? "none" : ckaId}, key_id ${keyId}) from ${preferred ?? ""} to ` +
    `${others.join(", ")} with the vendor's tool; waiting for it there`
  );
}
