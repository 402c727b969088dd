// The life cycle on a token like a TPM: it generates no secret keys, and its library reads its store only when it is loaded.

import { pkcs11Tool } from "../../support/softhsm.js";
import { describeLifeCycle, type LifeCycleToken } from "../life-cycle.js";
import { emulated } from "./emulated-token.js";

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
