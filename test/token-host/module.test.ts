// What loading a library says when this installation cannot do it. Libraries themselves are loaded in test/hsm.

import { expect, it } from "vitest";
import { loadModule } from "../../src/token-host/module.js";
import { newTurn } from "../../src/token-host/turn.js";

it("module.entry on an architecture without the compiled shim says what to do", () => {
  // Beside the sources there is no compiled shim.
  const request = { modulePath: "/lib.so", moduleEntry: "FC_GetFunctionList", token: {}, objectName: "kms" };
  expect(() => loadModule(request, newTurn())).toThrow(
    /module\.entry needs .*module-shim-\w+\.so, which this installation does not have for \w+; build /,
  );
});
