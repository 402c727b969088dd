// Command lines that cannot be run: what a newcomer types from habit, by mistake, or from a formatted page. Each is a usage
// error that says what to do.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { runCommand } from "../support/command.js";

const errorOf = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await runCommand(args);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).not.toMatch(/\n +at /);
  return stderr;
};

describe("a name that is no command", () => {
  it.each([
    ["policy", "'approvals policy'?"],
    ["policy sign", "'approvals policy sign'?"],
    ["rotate", "'keys rotate'?"],
    ["list", "'keys list'?"],
    ["list keys", "'keys list'?"],
    ["keyslist", "'keys list'?"],
    ["keys-list", "'keys list'?"],
    ["Keys list", "'keys list'?"],
    [
      "verify --snapshot x",
      "'evidence verify' or 'approvals policy verify' or 'audit verify' or 'etcd verify'?",
    ],
    ["keys rotat", "'keys rotate'?"],
    ["keys migrate", "'etcd migrate'?"],
    ["statsu", "'status'?"],
    ["rotte", "'keys rotate'?"],
    ["help keys rotat", "'help keys rotate'?"],
  ])("'%s' suggests %s", async (line, meant) => {
    expect(await errorOf(...line.split(" "))).toContain(`\ndid you mean ${meant}\n`);
  });

  it("a name like no command suggests none", async () => {
    expect(await errorOf("encrypt")).toBe(
      "kms-pkcs11: unknown command 'encrypt'\n(run 'kms-pkcs11 --help' for usage)\n",
    );
  });

  it("with --output json, the suggestion for a mistyped command is the next step", async () => {
    const { error } = JSON.parse(await errorOf("policy", "-o", "json")) as { error: unknown };
    expect(error).toEqual({
      code: "CONFIG_INVALID",
      message: "unknown command 'policy'",
      next: "did you mean 'approvals policy'? run 'kms-pkcs11 --help' for its usage",
    });
  });
});

describe("words that a command does not take", () => {
  it("surplus arguments are named", async () => {
    expect(await errorOf("status", "/run/kms.sock", "now")).toBe(
      "kms-pkcs11: unexpected arguments '/run/kms.sock', 'now'; 'status' takes none\n(run 'kms-pkcs11 status --help' for usage)\n",
    );
    expect(await errorOf("completion", "bash", "zsh")).toContain(
      "unexpected argument 'zsh'; 'completion' takes only 1",
    );
  });

  it.each([
    ["\u2013config", "--config"],
    ["\u2014config=x.yaml", "--config=x.yaml"],
    ["-\u2010config", "--config"],
    ["\u2212c", "-c"],
  ])("an option with a dash of formatted text, '%s', is shown as %s", async (typed, plain) => {
    expect(await errorOf("keys", "list", typed)).toContain(`type '${plain}' with hyphens`);
  });

  it.each([
    [["-config", "x.yaml"], "write --config"],
    [["-config=x.yaml"], "write --config"],
    [["-output", "json"], "write --output"],
    [["-o=json"], "write '-o json' or '--output=json'"],
    [["-wide"], "did you mean '--wide'?"],
  ])("an option with one hyphen, %j, is shown with two", async (args, advice) => {
    expect(await errorOf("keys", "list", ...args)).toContain(advice);
  });
});

describe("values of options that nobody means", () => {
  it.each([
    ["an empty value", ["--config", ""], "--config has an empty value"],
    ["an empty value after =", ["--key="], "--key has an empty value"],
    [
      "quotation marks of formatted text",
      ["--config", "\u201cx.yaml\u201d"],
      "--config has a quotation mark",
    ],
    ["a carriage return", ["--config", "x.yaml\r"], "--config begins or ends with a line break"],
    [
      "a no-break space",
      ["--key", "\u00a0pkcs11:token=a"],
      "--key begins or ends with a line break or an invisible",
    ],
    [
      "a list in two parts",
      ["--nodes", "http://127.0.0.1:1", "--nodes", "http://127.0.0.1:2"],
      "--nodes is given twice; give it once, with commas between its values",
    ],
  ])("%s is refused", async (_what, args, problem) => {
    expect(await errorOf("keys", "list", ...args)).toContain(problem);
  });

  it("an option that may be repeated may be", async () => {
    const { stderr } = await runCommand(["rotation", "run", "--approval", "a", "--approval", "b"]);
    expect(stderr).not.toContain("twice");
  });

  it("of an option that takes one value and is given twice, the last value counts", async () => {
    const { code, stdout } = await runCommand(["version", "-o", "table", "-o", "json"]);
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { platform: "linux" }]);
  });

  it.each(["3 s", "3sec", "1.5h", "-1s", "3S", "1d", "5m3h", "\uff11\uff10s", "10", "0s", "999999999h"])(
    "'%s' is refused as a time to wait",
    async (text) => {
      expect(await errorOf("status", "--wait", text)).toMatch(
        /^kms-pkcs11: --wait: ".*" is (not a duration; give whole numbers with h, m, s or ms|too short|too long).* 30s\n$/,
      );
    },
  );

  it("a time limit of a hundred years is kept", async () => {
    const { code, stderr } = await runCommand([
      "status",
      "--timeout",
      "876000h",
      "--socket",
      "/nowhere/kms.sock",
    ]);
    expect([code, stderr]).toEqual([3, expect.stringContaining("no plugin answers")]);
  });
});

describe("files that are not what an option needs", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "kms-pkcs11-wrong-"));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it("a folder for a report that does not exist is named with its option", async () => {
    expect(await errorOf("drill", "--snapshot", "x", "--to", join(folder, "none"))).toContain(
      `--to: ${folder}/none does not exist; create it`,
    );
  });

  it("a missing file is named, not the folder that it would be in", async () => {
    const missing = join(folder, "drill.json");
    const key = "pkcs11:token=t;object=k?module-path=/m.so";
    const args = ["evidence", "collect", "--key", key, "--to", join(folder, "out"), "--drill", missing];
    expect(await errorOf(...args)).toBe(
      `kms-pkcs11: ${missing} cannot be used (ENOENT: it does not exist)\n`,
    );
  });

  it("an endless file as etcd's CA is refused", async () => {
    expect(await errorOf("etcd", "usage", "--cacert", "/dev/zero")).toContain(
      "--cacert: /dev/zero cannot be read (longer than 1 MiB)",
    );
  });

  it("empty variables of etcdctl count as unset", async () => {
    const env = { ETCDCTL_CERT: "", ETCDCTL_KEY: "", ETCDCTL_CACERT: "", ETCDCTL_ENDPOINTS: "127.0.0.1:1" };
    const { code, stderr } = await runCommand(["etcd", "usage"], env);
    expect([code, stderr]).toEqual([3, expect.stringContaining("etcd does not answer: 127.0.0.1:1")]);
  });
});
