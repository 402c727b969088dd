// What the PIN gate checks before any login.

import { expect, it } from "vitest";

import { LoginGate } from "../../../src/hsm/login/login-gate.js";
import { loginStores } from "../../../src/hsm/login/login-files.js";
import { SILENT } from "../../support/fake-hsm.js";
import { tokenDescription } from "../../support/token-description.js";

it("a token with a keypad of its own is not sent a PIN", async () => {
  const pin = {
    read: () => Buffer.from("1234"),
    stamp: () => "",
    showsChange: true,
    description: "",
    correction: "",
  };
  const gate = new LoginGate({ pin, stores: loginStores(undefined, 0), allowFinalTry: false, log: SILENT });
  const description = tokenDescription({ label: "keypad", protectedAuthenticationPath: true });
  const attempts: string[] = [];
  const login = gate.login(
    () => Promise.resolve(description),
    (sent) => Promise.resolve(void attempts.push(sent.toString())),
  );
  await expect(login).rejects.toMatchObject({ code: "TOKEN_REFUSED", message: /keypad/ });
  expect(attempts).toEqual([]);
});
