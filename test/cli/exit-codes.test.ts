// The exit codes of commands, which scripts rely on. No command shows a PIN.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { MAIN } from "../support/plugin-process.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

/** Never started. */
const kms = usePlugin({}, { start: false });

describe("the commands' exit codes", () => {
  const uri = (): string => tokenUri(kms.token, "kms-kek");
  /** Opening it would block. */
  const fifo = (): string => {
    const path = join(kms.token.folder, "fifo");
    execFileSync("mkfifo", ["-m", "600", path]);
    return path;
  };

  it.each([
    ["a missing module", 2, () => uri().replace("libsofthsm2", "libnothing"), /libnothing/],
    [
      "a FIFO as the module",
      2,
      () => tokenUri(kms.token, "kms-kek", fifo()),
      /is not a regular file; correct module-path/,
    ],
    ["another token", 3, () => uri().replace("token=kms", "token=other"), /no token matches token=other/],
    ["a missing key", 1, () => uri().replace("kms-kek", "nothing"), /keys create/],
    ["a PIN in the URI", 2, () => `${uri()}&pin-value=8765`, /pin-source/],
  ])("check with %s exits with %i", async (_what, code, key, text) => {
    const result = await runCommand(["check", "--key", key(), "--socket", "/run/x.sock"], kms.token.env);
    expect(result.code).toBe(code);
    expect(result.stdout + result.stderr).toMatch(text);
    expect(result.stdout + result.stderr).not.toContain("8765");
  });

  it("check without problems exits with 0 and prints one line per finding", async () => {
    const { code, stdout } = await runCommand(["check", "--config", kms.plugin.configFile], kms.token.env);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok +mechanism +"kms-kek@.*": aes-gcm: .*; used$/m);
    expect(stdout).not.toMatch(/^fail/m);
  });

  it("a second keys create exits with 1 and creates nothing", async () => {
    const { code, stderr } = await runCommand(["keys", "create", "--key", uri()], kms.token.env);
    expect([code, stderr]).toEqual([1, expect.stringContaining("nothing was created")]);
  });

  it.each(["keys list", "serve", "check"])("%s exits with 3 if it may open too few files", (command) => {
    for (const limit of [22, 44, 127]) {
      const line = `ulimit -n ${limit}; exec '${process.execPath}' '${MAIN}' ${command} --config '${kms.plugin.configFile}'`;
      const { status, stderr } = spawnSync("sh", ["-c", line], { encoding: "utf8", timeout: 30_000 });
      expect([status, stderr]).toEqual([3, expect.stringMatching(/^kms-pkcs11: .*ulimit -n 1024.*\n$/)]);
    }
  });

  it("status exits with 3 without a plugin and with 2 for an unknown option", async () => {
    expect((await runCommand(["status", "--socket", "/nowhere/kms.sock"])).code).toBe(3);
    expect((await runCommand(["status", "--no-such-option"])).code).toBe(2);
  });

  it("status exits with 1 if the plugin answers with an error", async () => {
    const { plugin: keyless } = await kms.add({}, { object: "no-such-kek" });
    keyless.launch();
    await waitFor(() => existsSync(keyless.socket), { what: "the socket" });
    expect(await runCommand(["status", "--socket", keyless.socket])).toMatchObject({ code: 1, stdout: "" });
  });
});
