// A SoftHSM token for all tests of a file or group, with the fault module in front of it if a test asks for one. For
// tests of the HSM layer with its token hosts, see faulty-token.ts.

import { afterAll, afterEach, beforeAll } from "vitest";

import { FaultModule } from "./fault-module.js";
import { createSoftHsm, createSoftHsmWithKek, type SoftHsm, type SoftHsmOptions } from "./softhsm.js";
import type { TestToken } from "./token.js";

export interface TokenFixture {
  readonly token: SoftHsm;
  /** In front of the token; only with `faults`. */
  readonly fault: FaultModule;
  /** The fault module, or the token if there is none. */
  readonly front: TestToken;
}

export interface TokenOptions extends SoftHsmOptions {
  /** The token holds an active KEK `kms-kek`. Only with the default label and PINs. */
  readonly kek?: boolean;
  /** Puts the fault module in front, with these rules at first and again after each test; none if empty. */
  readonly faults?: readonly string[] | ((fault: FaultModule) => readonly string[]);
}

/** Makes the token before the tests, and removes it after them. */
export function useToken({ kek = false, faults, ...options }: TokenOptions = {}): TokenFixture {
  const made: { token?: SoftHsm; fault?: FaultModule } = {};
  const need = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error("useToken: not made, or asked for outside a test");
    return value;
  };
  const reset = (): void => {
    made.fault?.set(...(typeof faults === "function" ? faults(made.fault) : (faults ?? [])));
  };

  beforeAll(() => {
    made.token = kek ? createSoftHsmWithKek() : createSoftHsm(options);
    if (faults !== undefined) made.fault = new FaultModule(made.token);
    reset();
  });
  afterEach(reset);
  afterAll(() => {
    made.fault?.remove();
    made.token?.remove();
  });

  return {
    get token() {
      return need(made.token);
    },
    get fault() {
      return need(made.fault);
    },
    get front() {
      return made.fault ?? need(made.token);
    },
  };
}
