// Destroys a KEK on tokens and checks the result: only a reloaded library shows whether every object with the
// key_id is gone. A lost reply, or a token host that was killed during the call, proves nothing.
import { KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";
import type { Hsm, KekRecord } from "../hsm/port.js";
import type { DestroyWindow, TokenAdministration } from "../hsm/token-hsm.js";
import { isSameKek, mayBeNamed } from "../hsm/key-id.js";
import type { Token } from "./command-tokens.js";
import { readBack } from "./read-back.js";
import type { Changes, TokenChange } from "./token-changes.js";

type DestroyingHsm = Pick<TokenAdministration, "destroy"> & Pick<Hsm, "listKeksReloaded">;

/** `absent`: there was nothing to destroy; `gone`: the call failed, but the token no longer shows the KEK. */
type Outcome = "destroyed" | "absent" | "gone";

/** Bounds the rounds, since another process may keep adding objects. */
const MOST_ROUNDS = 4;

/** Destroys a KEK on every token that holds it, one token after the other. Never throws. */
export async function destroyOn(
  tokens: readonly Token[],
  kek: KekRecord,
  window?: DestroyWindow,
): Promise<Changes> {
  const changes: TokenChange[] = [];
  let failure: KmsError | undefined;
  for (const { name, hsm, failure: away, records } of tokens) {
    try {
      if (away !== undefined) throw away;
      const wasThere = records?.some((record) => isSameKek(record, kek)) ?? false;
      const outcome = await destroyAndConfirm(hsm, kek, window);
      const done = outcome === "destroyed" || (outcome === "gone" && wasThere);
      changes.push({ token: name, outcome: done ? "done" : "not needed", error: null });
    } catch (thrown) {
      const error = KmsError.from(thrown);
      failure ??= error;
      const outcome = thrown instanceof UnknownOutcome ? "unknown" : "failed";
      changes.push({ token: name, outcome, error: error.message });
    }
  }
  return { tokens: changes, failure };
}

/** Reports that it is unknown whether the KEK is still on the token. */
class UnknownOutcome extends KmsError {}

/**
 * Destroys every object of a KEK on one token, and confirms with a reloaded library that it is gone.
 * @throws KmsError when it is still there; UnknownOutcome when the token cannot be read afterwards
 */
export async function destroyAndConfirm(
  hsm: DestroyingHsm,
  kek: KekRecord,
  window?: DestroyWindow,
): Promise<Outcome> {
  let objects = 0;
  for (let round = 1; ; round++) {
    let trouble: KmsError | undefined;
    try {
      objects += await hsm.destroy(kek, window);
    } catch (error) {
      trouble = KmsError.from(error);
    }
    const records = await recordsAfter(hsm, kek, trouble);
    const left = records.filter((record) => isSameKek(record, kek));
    if (objects === 0 && left.length === 0) requireNotRenamed(kek, records);
    if (left.length === 0) return objects > 0 ? "destroyed" : trouble === undefined ? "absent" : "gone";
    if (trouble !== undefined) throw stillThere(kek, trouble);
    if (round === MOST_ROUNDS) throw stillThere(kek);
  }
}

async function recordsAfter(
  hsm: DestroyingHsm,
  kek: KekRecord,
  trouble: KmsError | undefined,
): Promise<readonly KekRecord[]> {
  try {
    return await readBack(hsm);
  } catch (error) {
    const { code, message } = KmsError.from(error);
    const before = trouble === undefined ? "" : `${trouble.message}; `;
    throw new UnknownOutcome(
      code,
      `${before}the token cannot be read again (${message}); whether it still holds ${kek.keyId} is not known`,
      trouble ?? error,
    );
  }
}

/** Requires that the KEK is not there with a fingerprint that the HSM has computed by another method. @throws KmsError */
function requireNotRenamed(kek: KekRecord, records: readonly KekRecord[]): void {
  const renamed = records.find(({ label, ...names }) => label === kek.label && mayBeNamed(names, kek.keyId));
  if (renamed === undefined) return;
  throw new KmsError(
    "TOKEN_REFUSED",
    `the token now shows ${renamed.keyId} under the label of ${kek.keyId}, which may be the same KEK; repeat the command with that key_id`,
  );
}

function stillThere({ keyId }: KekRecord, trouble?: KmsError): KmsError {
  if (trouble === undefined) {
    return new KmsError(
      "TOKEN_REFUSED",
      `the token accepted C_DestroyObject but still holds ${keyId}; repeat the command`,
    );
  }
  const text = meansHsmAway(trouble)
    ? `${trouble.message}; the token still holds ${keyId} but may still carry out the call; check again`
    : `${trouble.message}; the token still holds ${keyId}`;
  return new KmsError(trouble.code, text, trouble);
}
