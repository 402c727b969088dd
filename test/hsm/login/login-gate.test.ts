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

it.each([false, true])(
  "an unanswered PIN is repeated on a token that counts wrong ones if it is the only one: %s",
  async (isOnlyOneLeft) => {
    const attempts: string[] = [];
    const pin = {
      read: () => Buffer.from("1234"),
      stamp: () => "epoch 2",
      showsChange: true,
      description: "epoch 2",
      correction: "",
    };
    const stores = loginStores(undefined, 0);
    const login = (counted: boolean, left: boolean): Promise<void> =>
      new LoginGate({
        pin: { ...pin, isOnlyOneLeft: left },
        stores,
        allowFinalTry: false,
        log: SILENT,
      }).login(
        () => Promise.resolve(tokenDescription({ pinCountLow: counted })),
        (sent) => {
          attempts.push(sent.toString());
          return attempts.length === 1 ? Promise.reject(new Error("the host ended")) : Promise.resolve();
        },
      );
    await expect(login(false, false)).rejects.toThrow();
    const again = login(true, isOnlyOneLeft);
    if (isOnlyOneLeft) await again;
    else await expect(again).rejects.toThrow(/no clear answer/);
    expect(attempts).toHaveLength(isOnlyOneLeft ? 2 : 1);
  },
);
