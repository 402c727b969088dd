// The PIN source from the settings, as the login gate uses it. A reload of the configuration may replace it; a PIN that
// was refused is not tried again from another source.
import {
  correctPin,
  describePinSource,
  pinSourceStamp,
  stampShowsChange,
  type PinSource,
} from "../config/pin-source.js";
import { readPin } from "../config/read-pin.js";
import type { Pin } from "../hsm/login/login-gate.js";

/** A PIN source that can be replaced. */
export class ConfiguredPin implements Pin {
  #source: PinSource;
  readonly #env: NodeJS.ProcessEnv;

  constructor(source: PinSource, env: NodeJS.ProcessEnv) {
    this.#source = source;
    this.#env = env;
  }

  /** Replaces the source from the next login on. @throws KmsError PIN_UNREADABLE if no PIN can be read from it */
  replace(source: PinSource): void {
    readPin(source, this.#env)?.fill(0);
    this.#source = source;
  }

  read(): Buffer | undefined {
    return readPin(this.#source, this.#env);
  }

  stamp(): string {
    return pinSourceStamp(this.#source);
  }

  get showsChange(): boolean {
    return stampShowsChange(this.#source);
  }

  get description(): string {
    return describePinSource(this.#source);
  }

  get correction(): string {
    return correctPin(this.#source);
  }
}
