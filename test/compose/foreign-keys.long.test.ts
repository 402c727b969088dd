// Keys that other tools made on the token are found, refused, adopted, and replaced by rotation.

import { describe, expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { pkcs11Tool } from "../support/softhsm.js";
import { useToken } from "../support/token-fixture.js";
import { tokenUri } from "../support/token.js";

const hsm = useToken();

describe("keys that other tools made", () => {
  const make = (label: string, ...flags: string[]): void => {
    pkcs11Tool(hsm.token, "--keygen", "--key-type", "AES:32", "--label", label, ...flags);
  };
  const list = (object: string, ...more: string[]) =>
    runCommand(
      ["keys", "list", "--key", tokenUri(hsm.token, object), "--output", "json", ...more],
      hsm.token.env,
    );
  interface Listing {
    readonly keys: readonly { keyId: string; state: string; findings: string[] }[];
    readonly problem: string | null;
  }
  const parse = (text: string): Listing => JSON.parse(text) as Listing;

  it("keys of other tools are found by their label, and two of one label are both named", async () => {
    make("plain", "--id", "aa", "--private", "--sensitive");
    const one = await list("plain");
    expect(one.code).toBe(0);
    make("plain", "--id", "aa", "--private", "--sensitive");
    const two = await list("plain");
    expect(two.code).toBe(1);
    const { keys, problem } = parse(two.stdout);
    expect(new Set(keys.map(({ keyId }) => keyId)).size).toBe(2);
    for (const { keyId } of keys) expect(problem).toContain(keyId);
  });

  it("keys of other tools are refused when they are not protected", async () => {
    make("naked");
    const { keys, problem } = parse((await list("naked")).stdout);
    expect(keys[0]?.state).toBe("refused");
    expect(problem).toMatch(/CKA_SENSITIVE is false|CKA_PRIVATE is false/);
  });

  it("keys of other tools are adopted with their key_id, and rotated from", async () => {
    make("console", "--id", "bb", "--private", "--sensitive");
    const keyId = parse((await list("console")).stdout).keys[0]?.keyId ?? "";
    const uri = tokenUri(hsm.token, "console");
    expect((await runCommand(["keys", "adopt", keyId, "--key", uri], hsm.token.env)).code).toBe(0);
    expect(
      (await runCommand(["keys", "rotate", "--key", uri, "--activate-in", "1h"], hsm.token.env)).code,
    ).toBe(0);
    const { keys } = parse((await list("console")).stdout);
    expect(keys.map(({ state }) => state)).toEqual(["standby", "active"]);
    expect(keys[1]?.keyId).toBe(keyId);
    const active = await runCommand(
      ["keys", "destroy", keyId, "--key", uri, "--i-understand-data-is-lost", keyId],
      hsm.token.env,
    );
    expect([active.code, active.stderr]).toEqual([1, expect.stringContaining("is the active KEK")]);
    const standby = keys[0]?.keyId ?? "";
    expect((await runCommand(["keys", "destroy", standby, "--key", uri], hsm.token.env)).code).toBe(1);
    const sure = ["--i-understand-data-is-lost", standby];
    expect((await runCommand(["keys", "destroy", standby, "--key", uri, ...sure], hsm.token.env)).code).toBe(
      0,
    );
    expect(parse((await list("console")).stdout).keys).toHaveLength(1);
  });
});
