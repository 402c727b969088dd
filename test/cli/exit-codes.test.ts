// How commands end: the exit codes that scripts go by, and that no PIN is shown on the way.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { createKek, kmsPkcs11, MAIN, PluginProcess } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

let token: SoftHsm;
/** Not started. */
let plugin: PluginProcess;

beforeAll(() => {
  token = createSoftHsm();
  createKek(token);
  plugin = new PluginProcess(token);
});

afterAll(() => {
  plugin.remove();
  token.remove();
});

describe("the commands' exit codes", () => {
  const uri = (): string => tokenUri(token, "kms-kek");

  it.each([
    ["a missing module", 2, () => uri().replace("libsofthsm2", "libnothing"), /libnothing/],
    ["another token", 3, () => uri().replace("token=kms", "token=other"), /no token matches token=other/],
    ["a missing key", 1, () => uri().replace("kms-kek", "nothing"), /keys create/],
    ["a PIN in the URI", 2, () => `${uri()}&pin-value=8765`, /pin-source/],
  ])("%s", (_what, code, key, text) => {
    const result = kmsPkcs11(["check", "--key", key(), "--socket", "/run/x.sock"], token.env);
    expect(result.code).toBe(code);
    expect(result.stdout + result.stderr).toMatch(text);
    expect(result.stdout + result.stderr).not.toContain("8765");
  });

  it("0 and a line for each finding when all is well", () => {
    const { code, stdout } = kmsPkcs11(["check", "--config", plugin.configFile], token.env);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok +mechanism +aes-gcm: .*taken$/m);
    expect(stdout).not.toMatch(/^fail/m);
  });

  it("1 for a second keys create, which makes nothing", () => {
    const { code, stderr } = kmsPkcs11(["keys", "create", "--key", uri()], token.env);
    expect([code, stderr]).toEqual([1, expect.stringContaining("nothing was created")]);
  });

  it.each(["keys list", "serve", "check"])("3 and one line when %s may open too few files", (command) => {
    for (const limit of [22, 30, 44]) {
      const line = `ulimit -n ${limit}; exec '${process.execPath}' '${MAIN}' ${command} --config '${plugin.configFile}'`;
      const { status, stderr } = spawnSync("sh", ["-c", line], { encoding: "utf8" });
      expect([status, stderr]).toEqual([3, expect.stringMatching(/^kms-pkcs11: .*ulimit -n 1024.*\n$/)]);
    }
  });

  it("3 for a plugin that is not there, 2 for an option that is not", () => {
    expect(kmsPkcs11(["status", "--socket", "/nowhere/kms.sock"]).code).toBe(3);
    expect(kmsPkcs11(["status", "--no-such-option"]).code).toBe(2);
  });

  it("1 for a plugin that answers Status with an error", async () => {
    const keyless = new PluginProcess(token, {}, "no-such-kek");
    try {
      keyless.launch();
      await waitFor(() => existsSync(keyless.socket), { what: "the socket" });
      expect(kmsPkcs11(["status", "--socket", keyless.socket])).toMatchObject({ code: 1, stdout: "" });
    } finally {
      await keyless.stop();
      keyless.remove();
    }
  });
});
