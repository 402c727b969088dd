// A token that the fault module emulates.

import { FaultModule } from "../../support/fault-module.js";
import { createSoftHsm, type SoftHsm } from "../../support/softhsm.js";

/** Makes a SoftHSM token behind the fault module with these rules. */
export function emulated(...rules: string[]): FaultModule & { readonly softHsm: SoftHsm } {
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
