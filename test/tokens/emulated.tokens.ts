// The life cycle on tokens that the fault module emulates: `scripts/test-tokens emulated`.

import { FaultModule } from "../support/fault-module.js";
import { createSoftHsm, pkcs11Tool, type SoftHsm } from "../support/softhsm.js";
import { describeLifeCycle, type LifeCycleToken } from "./life-cycle.js";

/** SoftHSM behind the fault module with these rules. */
function emulated(...rules: string[]): FaultModule & { readonly softHsm: SoftHsm } {
  const softHsm = createSoftHsm();
  const fault = new FaultModule(softHsm);
  fault.set(...rules);
  const remove = fault.remove.bind(fault);
  return Object.assign(fault, {
    softHsm,
    remove: () => {
      remove();
      softHsm.remove();
    },
  });
}

/** A token that generates no secret keys and whose library reads its store only when it is loaded, as a TPM's does. */
function vendorMade(): LifeCycleToken {
  const fault = emulated("store-at-load", "C_GenerateKey rv 0x54");
  const { softHsm } = fault;
  const makeKek = (label: string): void => {
    const key = [
      "--keygen",
      "--key-type",
      "GENERIC:32",
      "--label",
      label,
      "--sensitive",
      "--private",
      "--usage-sign",
    ];
    pkcs11Tool(softHsm, ...key);
  };
  return Object.assign(fault, { makeKek, readAtLoad: true });
}

describeLifeCycle("a token that generates no secret keys and is read at load", vendorMade);
describeLifeCycle("a token with a login for each load of its library", () => emulated("login-per-load"));
