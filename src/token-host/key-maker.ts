// Makes a generation of the KEK inside the HSM: the key or keys of the first candidate that works on the token.
import type { Handle } from "pkcs11js";
import type { MechanismChoice } from "../hsm/mechanisms.js";
import type { GenerateRequest } from "../hsm/port.js";
import { candidateFor } from "./kek-candidates.js";
import { removeObjects } from "./remove-objects.js";
import { makeRsaPairs } from "./rsa-key-maker.js";
import { makeSecretKey, type SecretKind } from "./secret-key-maker.js";
import type { TokenSession } from "./session.js";

/** The objects of one generation. */
export interface MadeKek {
  readonly objects: readonly Handle[];
  /** The mechanism that they were made for. */
  readonly choice: MechanismChoice;
}

/**
 * Makes the key or keys of one generation, for a reading of the keyring to find and name.
 * @param tokenLabel names the token in an error
 * @throws TokenFault as `candidateFor`, and when the token refuses or fails
 */
export function makeKek(session: TokenSession, request: GenerateRequest, tokenLabel: string): MadeKek {
  const candidate = candidateFor(session, request, tokenLabel);
  const id = Buffer.from(request.ckaId, "hex");
  const wanted = { label: request.label, id, onToken: true } as const;
  const objects: Handle[] = [];
  try {
    if (candidate.kind === "rsa") {
      makeRsaPairs(session, wanted, objects);
      return { objects, choice: candidate.choice };
    }
    for (const kind of candidate.kind.split("+") as SecretKind[]) {
      objects.push(makeSecretKey(session, kind, candidate.wraps, wanted));
    }
    return { objects, choice: candidate.choice };
  } catch (error) {
    // A single key of a pair would be listed as another KEK.
    removeObjects(session, objects, "removing one key of an incomplete pair (C_DestroyObject)");
    throw error;
  }
}
