// The readable ones of several tokens: a KEK that they lack may be on a token that could not be read.
import { KmsError } from "../errors.js";
import type { Caller, CryptRequest, Hsm, HsmState, KekRecord, ProbeResult } from "../hsm/port.js";
import type { MechanismChoice } from "../hsm/mechanisms.js";

/** Uses the readable tokens, and never says that a KEK does not exist. */
export class IncompleteHsm implements Hsm {
  readonly #hsm: Hsm;
  readonly #unread: KmsError;

  /** @param away the first token that could not be read, and why */
  constructor(hsm: Hsm, away: { readonly name: string; readonly failure: KmsError }) {
    this.#hsm = hsm;
    const { name, failure } = away;
    // Not the failure's own code, after which a command would stop: other objects can be decrypted.
    const text = `its KEK may be on ${name}, which could not be read: ${failure.message}`;
    this.#unread = new KmsError("KEY_MISSING", text, failure);
  }

  encrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    return this.#hsm.encrypt(request, caller);
  }

  async decrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    try {
      return await this.#hsm.decrypt(request, caller);
    } catch (error) {
      throw KmsError.from(error).code === "KEY_UNKNOWN" ? this.#unread : error;
    }
  }

  listKeks(maxAgeMs?: number): Promise<readonly KekRecord[]> {
    return this.#hsm.listKeks(maxAgeMs);
  }

  listKeksReloaded(maxAgeMs?: number): Promise<readonly KekRecord[]> {
    return this.#hsm.listKeksReloaded(maxAgeMs);
  }

  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]> {
    return this.#hsm.probe(keyId, choice);
  }

  state(): HsmState {
    const state = this.#hsm.state();
    return state.up ? { ...state, unread: state.unread ?? this.#unread } : state;
  }
}
