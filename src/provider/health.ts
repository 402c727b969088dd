// Holds what the background check has found out about the HSM. Only the check writes it.
import type { KmsError } from "../errors.js";
import type { Hsm } from "../hsm/port.js";
import type { SwitchHealth } from "./active-key.js";
import type { Outage } from "./outage.js";

/** Holds the findings of the background check. */
export class Health implements SwitchHealth {
  readonly outage: Outage;
  readonly #hsm: Hsm;
  #checkedAt: number | undefined;

  constructor(hsm: Hsm, outage: Outage) {
    this.#hsm = hsm;
    this.outage = outage;
  }

  get isOutage(): boolean {
    return this.outage.reason !== undefined;
  }

  get unread(): KmsError | undefined {
    const state = this.#hsm.state();
    return state.up ? state.unread : undefined;
  }

  get checkedAt(): number | undefined {
    return this.#checkedAt;
  }

  /** Records a check that read the token and proved its KEKs. @param beganAt ms since the epoch */
  noteCheck(beganAt: number): void {
    this.#checkedAt = beganAt;
  }
}
