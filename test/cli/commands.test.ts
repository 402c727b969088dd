// The commands as an operator runs them, with a SoftHSM token.
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";

import { FaultModule } from "../support/fault-module.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { MAIN, type CommandResult } from "../support/plugin-process.js";
import { tokenUri, writePinFile } from "../support/token.js";

const execute = promisify(execFile);

/** Started by the last test only. */
const kms = usePlugin({ mode: "local-kek" }, { token: { pin: "a-pin-7261" }, start: false });
let uri: string;

beforeAll(async () => {
  uri = tokenUri(kms.token, "kms-kek");
  const child = new Pkcs11Client(kms.token);
  await child.open();
  await child.run(({ p11, state }) => {
    state.makeKey({ [p11.CKA_LABEL]: "naked", [p11.CKA_SENSITIVE]: false, [p11.CKA_EXTRACTABLE]: true });
    const none = { [p11.CKA_ENCRYPT]: false, [p11.CKA_DECRYPT]: false };
    state.makeKey({ [p11.CKA_LABEL]: "useless", [p11.CKA_WRAP]: false, [p11.CKA_UNWRAP]: false, ...none });
    const signs = { [p11.CKA_SIGN]: true, [p11.CKA_VERIFY]: true };
    state.makeKey({ [p11.CKA_LABEL]: "versatile", [p11.CKA_WRAP]: true, [p11.CKA_UNWRAP]: true, ...signs });
    state.makeKey({ [p11.CKA_LABEL]: "twins", [p11.CKA_ID]: Buffer.of(1) });
    state.makeKey({ [p11.CKA_LABEL]: "twins", [p11.CKA_ID]: Buffer.of(2) });
  });
  await child.kill();
});

/** Runs a command and checks that it does not print the PIN. */
const run = async (...args: string[]): Promise<CommandResult> => {
  const result = await runCommand(args, kms.token.env);
  expect(result.stdout + result.stderr).not.toContain(kms.token.pin);
  return result;
};
const json = ({ stdout }: CommandResult): Record<string, unknown> =>
  JSON.parse(stdout) as Record<string, unknown>;

interface Finding {
  readonly verdict: string;
  readonly subject: string;
  readonly detail: string;
}
const failures = (result: CommandResult): string[] =>
  (json(result)["findings"] as Finding[])
    .filter(({ verdict }) => verdict === "fail")
    .map(({ subject, detail }) => `${subject}: ${detail}`);

describe("keys create and keys list", () => {
  it("'keys create' makes a key that 'keys list' shows, and refuses to make a second", async () => {
    const none = await run("keys", "list", "--key", uri);
    expect([none.code, none.stdout]).toEqual([1, expect.stringContaining("keys create")]);

    const made = await run("keys", "create", "--key", uri, "-o", "json");
    expect(made.code).toBe(0);
    const created = json(made)["created"] as { keyId: string; label: string };
    expect(created.label).toMatch(/^kms-kek@\d{8}T\d{6}Z$/);
    // A UUIDv7 as the CKA_ID, then the fingerprint.
    expect(created.keyId).toMatch(/^[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}\.c[0-9a-f]{32}$/);

    const table = await run("keys", "list", "--key", uri);
    expect([table.code, table.stdout]).toEqual([
      0,
      expect.stringMatching(/^STATE .*\nactive .*aes .*kms-kek@.* none$/m),
    ]);
    // The KEK has just become active: no node need have switched to it yet.
    expect(table.stdout).toContain("note: a node uses the active KEK from its next Status call on");
    const listing = await run("--output", "json", "keys", "list", "--key", uri);
    expect(json(listing)).toMatchObject({
      problem: null,
      keys: [{ keyId: created.keyId, state: "active", findings: [] }],
    });

    const second = await run("keys", "create", "--key", uri);
    expect([second.code, second.stderr]).toEqual([
      1,
      expect.stringContaining(`(key_id ${created.keyId}) already`),
    ]);
    expect((json(await run("keys", "list", "--key", uri, "-o", "json"))["keys"] as unknown[]).length).toBe(1);
  });

  it("'keys create' makes a key for --mechanism or the configured mechanism", async () => {
    const key = tokenUri(kms.token, "for-hmac");
    const made = await run("keys", "create", "--key", key, "--mechanism", "hmac-kdf", "-o", "json");
    expect([made.code, json(made)["created"]]).toEqual([0, expect.objectContaining({ kind: "hmac" })]);
    const config = join(kms.token.folder, "mechanism.yaml");
    writeFileSync(
      config,
      `apiVersion: kms-pkcs11.dev/v1\nkind: PluginConfiguration\nmechanism: aes-cbc-hmac\nkeys: { uri: "${key}" }\n`,
    );
    const next = await run("keys", "rotate", "--config", config, "-o", "json");
    expect([next.code, next.stdout]).toEqual([0, expect.stringContaining('"kind": "aes+hmac"')]);
  });

  it("'keys list' names the uses that a KEK does not need in one remark", async () => {
    const { code, stdout } = await run(
      "keys",
      "list",
      "--key",
      tokenUri(kms.token, "versatile"),
      "-o",
      "json",
    );
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as { keys: { findings: string[] }[] }).keys[0]?.findings).toEqual([
      "CKA_WRAP and CKA_UNWRAP are true: only the mechanism aes-kwp needs them; CKA_SIGN and CKA_VERIFY are true: a KEK does not need them; 'keys rotate' makes a KEK without them, if the token allows that",
    ]);
  });

  it("'keys list' names forbidden attributes, and keys that both claim to be active", async () => {
    const naked = await run("keys", "list", "--key", tokenUri(kms.token, "naked"), "-o", "json");
    expect(naked.code).toBe(1);
    expect(json(naked)).toMatchObject({ keys: [{ state: "refused" }] });
    expect(naked.stdout).toMatch(/CKA_EXTRACTABLE is true.*CKA_SENSITIVE is false/s);
    const twins = await run("keys", "list", "--key", tokenUri(kms.token, "twins"), "-o", "json");
    expect([twins.code, twins.stdout]).toEqual([1, expect.stringMatching(/several keys.*set keys\.active/)]);
  });
});

describe("check", () => {
  const check = (key: string, ...more: string[]): Promise<CommandResult> =>
    run("check", "--key", key, "--socket", join(kms.token.folder, "kms.sock"), "-o", "json", ...more);

  it("check finds no failure with a key of 'keys create'", async () => {
    const result = await check(uri);
    expect([result.code, failures(result)]).toEqual([0, []]);
    const subjects = (json(result)["findings"] as Finding[]).map(({ subject }) => subject);
    expect(subjects).toEqual(
      expect.arrayContaining(["config", "socket", "module", "token", "PIN", "active key", "mechanism"]),
    );
  });

  it("check reports each finding once, what was tried, and what to do about each warning", async () => {
    for (const key of ["naked", "twins", "useless", "kms-kek"]) {
      const findings = json(await check(uri.replace("kms-kek", key)))["findings"] as Finding[];
      const details = findings.map(({ detail }) => detail);
      expect(new Set(details).size).toBe(details.length);
      expect(details.filter((detail) => /CKA_EXTRACTABLE/.test(detail)).length).toBe(key === "naked" ? 1 : 0);
      for (const { verdict, detail } of findings) {
        expect(detail).not.toMatch(/kms-pkcs11 check/);
        if (verdict === "warn") expect(detail).toMatch(/; (replace|make|set|add|migrate) |: set |unless /);
      }
    }
    const { stdout } = await check(uri);
    expect(stdout).toMatch(/: aes-gcm: round trip done, a flipped bit refused; used/);
    expect(stdout).not.toMatch(/aes-kwp/);
  });

  it("check also checks the EncryptionConfiguration, and exits with 2 if it cannot work", async () => {
    const endpoint = `unix://${join(kms.token.folder, "kms.sock")}`;
    const file = (kmsOptions: string): string => {
      const providers = `[{ kms: { name: hsm, endpoint: "${endpoint}", ${kmsOptions} } }]`;
      const rule = `{ resources: ["*.*"], providers: ${providers} }`;
      const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
      const path = join(kms.token.folder, "encryption.yaml");
      writeFileSync(path, `${head}resources: [${rule}]\n`);
      return path;
    };
    const fine = await check(uri, "--encryption-config", file("apiVersion: v2, timeout: 3s"));
    expect([fine.code, failures(fine)]).toEqual([0, []]);
    expect(fine.stdout).toContain(`the plugin serves at ${endpoint}`);
    const slow = await check(uri, "--encryption-config", file("apiVersion: v2, timeout: 1us"));
    expect(slow.stdout).toMatch(/below the 99th percentile of this token, \d+\.\d ms; set timeout: 3s/);
    const v1 = await check(uri, "--encryption-config", file("timeout: 3s"));
    expect([v1.code, failures(v1)]).toEqual([
      2,
      [expect.stringMatching(/^encryption: .*add apiVersion: v2/)],
    ]);
    const unreadable = await check(uri, "--encryption-config", kms.token.pinFile);
    expect([unreadable.code, failures(unreadable).length]).toEqual([2, 1]);
  });

  it.each([
    ["a missing module", 2, () => uri.replace("softhsm2", "none"), /^module: .*install the vendor's client/],
    ["a file that is not a library", 2, () => tokenUri(kms.token, "kms-kek", kms.token.pinFile), /^module: /],
    ["another token", 3, () => uri.replace("=kms;", "=other;"), /^token: no token matches token=other/],
    ["a missing PIN file", 2, () => `${uri}-not`, /^PIN: .*-not/],
    ["a missing key", 1, () => uri.replace("kms-kek", "nothing"), /^key: .*keys create/],
    ["an unprotected key", 1, () => uri.replace("kms-kek", "naked"), /^key: .*keys\.allowUnprotected/],
    ["a key that may do nothing", 1, () => uri.replace("kms-kek", "useless"), /^mechanism: .*keys rotate/],
    ["two keys", 1, () => uri.replace("kms-kek", "twins"), /^key: .*set keys\.active/],
  ])("check says what to do about %s and exits with %i", async (_what, code, key, text) => {
    const result = await check(key());
    expect(failures(result)).toEqual([expect.stringMatching(text)]);
    expect(result.code).toBe(code);
  });

  it("check spends one PIN attempt on a wrong PIN, and none on the same PIN again", async () => {
    const fault = new FaultModule(kms.token);
    try {
      const { modulePath } = fault;
      const wrong = {
        ...kms.token,
        modulePath,
        pinFile: writePinFile(fault.folder, "not-the-pin-5512", "wrong"),
      };
      const key = tokenUri(wrong, "kms-kek");
      const stateDir = join(fault.folder, "state");
      const first = await check(key, "--state-dir", stateDir);
      expect(failures(first)).toEqual([expect.stringMatching(/^PIN: .*CKR_PIN_INCORRECT/)]);
      expect([first.code, fault.calls("C_Login")]).toEqual([1, 1]);
      const second = await check(key, "--state-dir", stateDir);
      expect([second.code, fault.calls("C_Login")]).toEqual([1, 1]);
      expect(failures(second)[0]).toMatch(/^PIN: /);
      for (const output of [first, second].map(({ stdout, stderr }) => stdout + stderr)) {
        expect(output).not.toContain("not-the-pin-5512");
      }
      expect(readFileSync(join(stateDir, "pin-refused.json"), "utf8")).not.toContain("5512");
      // A corrected PIN file has another stamp, so the PIN is tried.
      writeFileSync(wrong.pinFile, `${kms.token.pin}\n`);
      const third = await check(key, "--state-dir", stateDir);
      expect([third.code, failures(third)]).toEqual([0, []]);
    } finally {
      fault.remove();
    }
  });

  it("check fails for a socket folder that others may write to", async () => {
    const result = await run("check", "--key", uri, "--socket", "/tmp/kms.sock", "-o", "json");
    expect([result.code, failures(result)]).toEqual([2, [expect.stringMatching(/^socket: .*chmod go-w/)]]);
  });
});

describe("a configuration that cannot be used", () => {
  it("a wrong configuration exits with 2 and reports all problems, one line each", async () => {
    const file = join(kms.token.folder, "bad.yaml");
    writeFileSync(
      file,
      [
        "apiVersion: kms-pkcs11.dev/v1",
        "kind: PluginConfiguration",
        `keys: { uri: ${JSON.stringify(uri)} }`,
        "socket: { path: /run/x.sock, mode: '0666' }",
        "mode: indirect",
        "cache: { entries: -1 }",
        "hsm: { requestTimout: 2s }",
        "",
      ].join("\n"),
      { mode: 0o600 },
    );
    for (const command of ["serve", "check"]) {
      const { code, stderr, stdout } = await run(command, "--config", file);
      expect([code, stdout]).toEqual([2, ""]);
      for (const path of ["socket.mode", "mode", "cache.entries", "hsm.requestTimout"]) {
        expect(stderr).toMatch(
          new RegExp(`^(kms-pkcs11: )?\\S+:\\d+:\\d+: ${path.replace(".", "\\.")}: `, "m"),
        );
      }
      expect(stderr).toContain("requestTimeout");
    }
  });

  it.each([
    ["an unknown option", ["serve", "--sokcet", "x"], /--sokcet/],
    ["an unknown command", ["encrypt"], /encrypt/],
    ["another output", ["keys", "list", "--output", "xml"], /table, json/],
    ["a missing file", ["check", "--config", "/nowhere.yaml"], /nowhere\.yaml/],
    ["no key at all", ["keys", "list"], /^kms-pkcs11: no configuration: .*--config/],
    [
      "serve without a state directory",
      ["serve", "--key", "pkcs11:token=t;object=k?module-path=/m.so", "--socket", "/run/x.sock"],
      /^kms-pkcs11: stateDir: is missing; .*--state-dir/,
    ],
  ])("a command exits with 2 for %s", async (_what, args, text) => {
    const { code, stderr } = await run(...args);
    expect([code, stderr]).toEqual([2, expect.stringMatching(text)]);
  });
});

describe("status", () => {
  it("status exits with 3 if no plugin listens", async () => {
    const socket = join(kms.token.folder, "nobody.sock");
    const { code, stderr } = await run("status", "--socket", socket, "--wait", "1ms");
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/UNAVAILABLE.*nobody\.sock.*is the plugin running/),
    ]);
  });

  it("status waits for a plugin that starts, prints its answer and can make a round trip", async () => {
    const { socket } = kms.plugin;
    const waiting = execute(process.execPath, [MAIN, "status", "--socket", socket, "--wait", "1m"]);
    await kms.own.start();
    expect((await waiting).stdout).toMatch(/^healthz +ok$/m);
    expect((await run("status", "--socket", `unix://${socket}`)).stdout).toMatch(/^healthz +ok$/m);
    const result = await run("status", "--socket", socket, "--round-trip", "-o", "json");
    expect(result.code).toBe(0);
    const { keyId, roundTrip, ...rest } = json(result);
    expect(rest).toEqual({ version: "v2", healthz: "ok" });
    expect(roundTrip).toMatchObject({ keyId, annotations: ["local-kek.kms-pkcs11.dev"] });
  });
});
