// Proves a KEK on one token by what is stored under it: a DEK seed decrypts, and the same seed with a changed bit is refused. A
// KEK that may only decrypt has no other proof.
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { HsmSeeds } from "../etcd/hsm-seeds.js";
import { copyOf, type SeedQuestion } from "../etcd/seeds.js";
import type { Token } from "./command-tokens.js";
import type { Operator } from "./operator.js";
import { withProviderOn } from "./with-provider.js";

/**
 * Returns why the KEK of a seed is not proven on the token; undefined if it is. Never throws.
 * @param stored a seed that some token has decrypted
 */
export async function proveByStoredSeed(
  token: Token,
  stored: SeedQuestion,
  settings: Settings,
  operator: Operator,
): Promise<string | undefined> {
  try {
    // A new provider has nothing in its cache, so the token is asked.
    return await withProviderOn([token], settings, operator, async (provider) => {
      const hsm = new HsmSeeds(provider, 1);
      const sound = await hsm.load(stored);
      if ("refusal" in sound) return `it does not decrypt a stored DEK seed: ${sound.refusal.message}`;
      const altered = await hsm.load(withFlippedBit(stored));
      if ("seed" in altered) return "it decrypts a stored DEK seed in which a bit was changed";
      return isRefused(altered.refusal)
        ? undefined
        : `it fails on a DEK seed in which a bit was changed: ${altered.refusal.message}`;
    });
  } catch (error) {
    return `it could not be asked to decrypt a stored DEK seed: ${KmsError.from(error).message}`;
  }
}

/** A KEK that is found by an earlier key_id refuses a ciphertext as one of another KEK. */
function isRefused({ code }: KmsError): boolean {
  return code === "NOT_AUTHENTIC" || code === "INPUT_INVALID" || code === "KEY_UNKNOWN";
}

/** Changes what the HSM decrypts: under a local KEK, the annotation that holds it; otherwise the seed. */
function withFlippedBit(stored: SeedQuestion): SeedQuestion {
  const copy = copyOf(stored);
  const wrapped = Object.values(copy.annotations);
  for (const bytes of wrapped.length > 0 ? wrapped : [copy.encryptedSeed]) {
    const last = bytes.length - 1;
    bytes[last] = (bytes[last] ?? 0) ^ 1;
  }
  return copy;
}
