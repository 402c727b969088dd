// The plugin as kube-apiserver meets it: a process on a real SoftHSM token, asked through its socket.

import { createHash, randomBytes } from "node:crypto";
import { execFileSync } from "node:child_process";
import { existsSync, statSync, writeFileSync, chmodSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";

import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { KmsClient, type KmsCiphertext } from "../src/cli/kms-client.js";
import { hashKeyId } from "../src/observability/metrics.js";
import { FaultModule } from "./support/fault-module.js";
import { createKek, kmsPkcs11, PluginProcess } from "./support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "./support/softhsm.js";
import { tokenUri } from "./support/token.js";
import { waitFor } from "./support/wait.js";

let token: SoftHsm;
let plugin: PluginProcess;
let client: KmsClient;

beforeAll(async () => {
  token = createSoftHsm();
  createKek(token);
  plugin = new PluginProcess(token, { log: { level: "debug" }, cache: { entries: 100 } });
  await plugin.start();
  client = new KmsClient(plugin.socket);
});

afterAll(async () => {
  client.close();
  await plugin.stop();
  plugin.remove();
  token.remove();
});

const changed = (sealed: KmsCiphertext, at: number, bit = 1): KmsCiphertext => {
  const ciphertext = Buffer.from(sealed.ciphertext);
  ciphertext[at] = (ciphertext[at] ?? 0) ^ bit;
  return { ...sealed, ciphertext };
};

describe("Encrypt and Decrypt", () => {
  it("round trips every length from 1 to 768 bytes", async () => {
    const lengths = Array.from({ length: 768 }, (_, at) => at + 1);
    const caller = async (): Promise<void> => {
      for (let length = lengths.pop(); length !== undefined; length = lengths.pop()) {
        const plaintext = randomBytes(length);
        const sealed = await client.encrypt(plaintext, "length");
        expect(sealed.ciphertext.length).toBeLessThan(1024);
        expect((await client.decrypt(sealed, "length")).equals(plaintext)).toBe(true);
      }
    };
    await Promise.all(Array.from({ length: 16 }, caller));
  });

  it.each([0, 769, 40_000])("refuses a plaintext of %i bytes", async (length) => {
    await expect(client.encrypt(Buffer.alloc(length), "u")).rejects.toThrow(/^INVALID_ARGUMENT.*1 to 768/);
  });

  it("answers with the key_id of Status", async () => {
    const { keyId, version, healthz } = await client.status();
    expect([version, healthz]).toEqual(["v2", "ok"]);
    expect((await client.encrypt(randomBytes(32), "u")).keyId).toBe(keyId);
  });

  it("makes different ciphertexts of one plaintext", async () => {
    const sealed = await Promise.all(Array.from({ length: 50 }, () => client.encrypt(Buffer.alloc(32), "u")));
    expect(new Set(sealed.map((one) => one.ciphertext.toString("hex"))).size).toBe(50);
  });

  it("refuses a ciphertext with any one byte changed", async () => {
    const sealed = await client.encrypt(randomBytes(32), "u");
    for (let at = 0; at < sealed.ciphertext.length; at++) {
      await expect(
        client.decrypt(changed(sealed, at, 1 << (at % 8)), "u"),
        `byte ${String(at)}`,
      ).rejects.toThrow(/^INVALID_ARGUMENT/);
    }
    await expect(client.decrypt(sealed, "u")).resolves.toHaveLength(32);
  });

  it("refuses a shorter and a longer ciphertext, another key_id and foreign annotations", async () => {
    const sealed = await client.encrypt(randomBytes(32), "u");
    const { ciphertext } = sealed;
    const refuse = async (question: KmsCiphertext, how: RegExp): Promise<void> => {
      await expect(client.decrypt(question, "u")).rejects.toThrow(how);
    };
    await refuse({ ...sealed, ciphertext: ciphertext.subarray(0, -1) }, /^INVALID_ARGUMENT/);
    await refuse({ ...sealed, ciphertext: Buffer.concat([ciphertext, Buffer.of(0)]) }, /^INVALID_ARGUMENT/);
    await refuse({ ...sealed, ciphertext: Buffer.alloc(0) }, /^INVALID_ARGUMENT/);
    await refuse({ ...sealed, ciphertext: Buffer.alloc(1024, 1) }, /^INVALID_ARGUMENT/);
    await refuse({ ...sealed, keyId: "" }, /^INVALID_ARGUMENT/);
    await refuse({ ...sealed, keyId: "x".repeat(1024) }, /^INVALID_ARGUMENT/);
    await refuse({ ...sealed, keyId: "00.c0" }, /^NOT_FOUND/);
    await refuse({ ...sealed, annotations: { "a.example": Buffer.of(1) } }, /^INVALID_ARGUMENT/);
    await refuse({ ...sealed, annotations: { "a.example": Buffer.alloc(33_000) } }, /^INVALID_ARGUMENT/);
  });

  it("ends in a domain error for any bytes, and lives", async () => {
    const { keyId } = await client.status();
    const question = fc.record({
      ciphertext: fc.oneof(
        fc.uint8Array({ maxLength: 1100 }),
        fc.uint8Array({ minLength: 30, maxLength: 200 }).map((bytes) => Buffer.from([1, 1, 12, ...bytes])),
      ),
      keyId: fc.oneof(fc.constant(keyId), fc.string({ maxLength: 40 })),
      annotations: fc.dictionary(fc.string({ maxLength: 20 }), fc.constant(Buffer.of(1)), { maxKeys: 2 }),
    });
    const ask = async ({
      ciphertext,
      ...rest
    }: typeof question extends fc.Arbitrary<infer Q> ? Q : never) => {
      const answer = client.decrypt({ ciphertext: Buffer.from(ciphertext), ...rest }, "fuzz");
      expect(String(await answer.catch((error: unknown) => error))).toMatch(/INVALID_ARGUMENT|NOT_FOUND/);
    };
    // Many at a time: those with an unknown key_id wait for one reading together.
    const many = fc.array(question, { minLength: 50, maxLength: 50 });
    await fc.assert(
      fc.asyncProperty(many, async (questions) => {
        await Promise.all(questions.map(ask));
      }),
      { numRuns: 6 },
    );
    expect((await client.status()).healthz).toBe("ok");
  });

  it("serves several connections at once, and outlives garbage on others", async () => {
    const others = [1, 2, 3].map(() => new KmsClient(plugin.socket));
    for (const garbage of [
      randomBytes(4000),
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\xff".repeat(99), "latin1"),
    ]) {
      const raw = connect(plugin.socket);
      raw.on("error", () => undefined).resume();
      raw.end(garbage);
      await new Promise((resolve) => raw.once("close", resolve));
    }
    const answers = await Promise.all(others.map((other) => other.status()));
    expect(answers.every(({ healthz }) => healthz === "ok")).toBe(true);
    for (const other of others) other.close();
  });
});

describe("the log", () => {
  it("holds the uid and the key_id of a request on one JSON line, and no data", async () => {
    const plaintext = randomBytes(32);
    const sealed = await client.encrypt(plaintext, "uid-in-the-log");
    await client.decrypt(sealed, "uid-in-the-log");
    interface Entry {
      readonly uid?: string;
      readonly keyId?: string;
      readonly healthz?: string;
      readonly msg: string;
    }
    const lines = plugin.log.trim().split("\n");
    const entries = lines.map((line) => JSON.parse(line) as Entry);
    const ours = entries.filter(({ uid }) => uid === "uid-in-the-log");
    expect(ours.map(({ msg, keyId }) => [msg, keyId])).toEqual([
      ["Encrypt", sealed.keyId],
      ["Decrypt", sealed.keyId],
    ]);
    for (const secret of [plaintext, sealed.ciphertext, Buffer.from(`"${token.pin}"`)]) {
      for (const form of ["hex", "base64", "latin1"] as const)
        expect(plugin.log).not.toContain(secret.toString(form));
    }
    const changes = entries.filter(({ msg }) => msg === "Status changed");
    expect(changes.filter(({ healthz }) => healthz === "ok")).toHaveLength(1);
  });
});

describe("the socket", () => {
  it("is its user's alone", () => {
    expect(statSync(plugin.socket).mode & 0o777).toBe(0o600);
  });

  it("is not taken from a live plugin, whose key_id is told", async () => {
    const { keyId } = await client.status();
    const second = kmsPkcs11(["serve", "--config", plugin.configFile], token.env);
    expect(second.code).toBe(2);
    expect(second.stderr).toContain(`in use: a KMS plugin answers there with key_id ${keyId}`);
    expect((await client.status()).keyId).toBe(keyId);
  });
});

describe("another start", () => {
  let again: PluginProcess;

  afterEach(async () => {
    await again.stop();
    again.remove();
  });

  const withClient = async <T>(use: (other: KmsClient) => Promise<T>): Promise<T> => {
    const other = new KmsClient(again.socket);
    try {
      return await use(other);
    } finally {
      other.close();
    }
  };

  it("gives the same key_id, and opens what either mode sealed before, in both modes", async () => {
    const { keyId } = await client.status();
    const direct = await client.encrypt(Buffer.from("direct"), "u");
    again = new PluginProcess(token, { mode: "local-kek" });
    await again.start();
    const local = await withClient(async (other) => {
      expect((await other.status()).keyId).toBe(keyId);
      expect((await other.decrypt(direct, "u")).toString()).toBe("direct");
      return other.encrypt(Buffer.from("local"), "u");
    });
    expect(Object.keys(local.annotations)).toEqual(["local-kek.kms-pkcs11.dev"]);
    expect((await client.decrypt(local, "u")).toString()).toBe("local");
    const swapped = { ...local, annotations: { "local-kek.kms-pkcs11.dev": direct.ciphertext } };
    await expect(client.decrypt(swapped, "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
    await expect(client.decrypt({ ...local, annotations: {} }, "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
  });

  it("removes a stale socket, and its own one when it is told to stop", async () => {
    again = new PluginProcess(token);
    await again.start();
    await again.stop("SIGKILL");
    expect(existsSync(again.socket)).toBe(true);
    await again.start();
    expect(await again.stop()).toBe(0);
    expect(existsSync(again.socket)).toBe(false);
  });

  it("leaves a file that is no socket, and a folder that others may write to, alone, and the token too", () => {
    const fault = new FaultModule(token);
    again = new PluginProcess(fault);
    writeFileSync(again.socket, "mine");
    const file = kmsPkcs11(["serve", "--config", again.configFile], token.env);
    expect([file.code, file.stderr]).toEqual([2, expect.stringContaining("no socket; it is left alone")]);
    chmodSync(dirname(again.socket), 0o777);
    const open = kmsPkcs11(["serve", "--config", again.configFile], token.env);
    expect([open.code, open.stderr]).toEqual([2, expect.stringContaining("can be written to by others")]);
    expect(fault.calls()).toBe(0);
    fault.remove();
  });

  it("lets requests under way end when it is told to stop", async () => {
    again = new PluginProcess(token);
    await again.start();
    await withClient(async (other) => {
      await other.status();
      const answers = Array.from({ length: 200 }, () => other.encrypt(randomBytes(32), "drain"));
      await answers[0];
      const stopped = again.stop();
      const ended = await Promise.allSettled(answers);
      expect(await stopped).toBe(0);
      const refused = ended.filter((one) => one.status === "rejected").map((one) => String(one.reason));
      for (const reason of refused) expect(reason).toMatch(/UNAVAILABLE/);
    });
  });

  it("stays up and says what is wrong when the PIN is, after one attempt; and recovers when it is corrected", async () => {
    again = new PluginProcess(token);
    const pinFile = `${again.folder}/pin`;
    writeFileSync(pinFile, "wrong", { mode: 0o600 });
    again.configure({ keys: { uri: tokenUri({ ...token, pinFile }, "kms-kek") } });
    again.launch();
    await withClient(async (other) => {
      const refusal = (): Promise<string> => other.status().then(String, String);
      await waitFor(async () => /FAILED_PRECONDITION.*CKR_PIN_INCORRECT/.test(await refusal()), {
        timeoutMs: 20_000,
      });
      expect(again.running).toBe(true);
      expect(readdirSync(again.stateDir)).toContain("pin-refused.json");
      writeFileSync(pinFile, token.pin);
      await waitFor(async () => (await other.status()).healthz === "ok", { timeoutMs: 20_000 });
    });
  });
});

describe("keys that other tools made", () => {
  const make = (label: string, ...flags: string[]): void => {
    const login = ["--module", token.modulePath, "--token-label", token.label, "--login", "--pin", token.pin];
    execFileSync("pkcs11-tool", [...login, "--keygen", "--key-type", "AES:32", "--label", label, ...flags], {
      env: { ...process.env, ...token.env },
      stdio: "ignore",
    });
  };
  const list = (object: string, ...more: string[]) =>
    kmsPkcs11(["keys", "list", "--key", tokenUri(token, object), "--output", "json", ...more], token.env);
  interface Listing {
    readonly keys: readonly { keyId: string; state: string; findings: string[] }[];
    readonly problem: string | null;
  }
  const parse = (text: string): Listing => JSON.parse(text) as Listing;

  it("are found by their plain label; two of them are named; the same CKA_ID gives another key_id", () => {
    make("plain", "--id", "aa", "--private", "--sensitive");
    const one = list("plain");
    expect(one.code).toBe(0);
    make("plain", "--id", "aa", "--private", "--sensitive");
    const two = list("plain");
    expect(two.code).toBe(1);
    const { keys, problem } = parse(two.stdout);
    expect(new Set(keys.map(({ keyId }) => keyId)).size).toBe(2);
    for (const { keyId } of keys) expect(problem).toContain(keyId);
  });

  it("are refused when they are not protected", () => {
    make("naked");
    const { keys, problem } = parse(list("naked").stdout);
    expect(keys[0]?.state).toBe("refused");
    expect(problem).toMatch(/CKA_SENSITIVE is false|CKA_PRIVATE is false/);
  });

  it("are adopted with their key_id, and rotated from", () => {
    make("console", "--id", "bb", "--private", "--sensitive");
    const keyId = parse(list("console").stdout).keys[0]?.keyId ?? "";
    const uri = tokenUri(token, "console");
    expect(kmsPkcs11(["keys", "adopt", keyId, "--key", uri], token.env).code).toBe(0);
    expect(kmsPkcs11(["keys", "rotate", "--key", uri, "--activate-in", "1h"], token.env).code).toBe(0);
    const { keys } = parse(list("console").stdout);
    expect(keys.map(({ state }) => state)).toEqual(["standby", "active"]);
    expect(keys[1]?.keyId).toBe(keyId);
    const active = kmsPkcs11(
      ["keys", "destroy", keyId, "--key", uri, "--i-understand-data-is-lost", keyId],
      token.env,
    );
    expect([active.code, active.stderr]).toEqual([1, expect.stringContaining("is the active KEK")]);
    const standby = keys[0]?.keyId ?? "";
    expect(kmsPkcs11(["keys", "destroy", standby, "--key", uri], token.env).code).toBe(1);
    const sure = ["--i-understand-data-is-lost", standby];
    expect(kmsPkcs11(["keys", "destroy", standby, "--key", uri, ...sure], token.env).code).toBe(0);
    expect(parse(list("console").stdout).keys).toHaveLength(1);
  });
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

  it("3 for a plugin that is not there, 2 for an option that is not", () => {
    expect(kmsPkcs11(["status", "--socket", "/nowhere/kms.sock"]).code).toBe(3);
    expect(kmsPkcs11(["status", "--no-such-option"]).code).toBe(2);
  });

  it("every command's help shows an example", () => {
    for (const command of [
      ["serve"],
      ["check"],
      ["status"],
      ["keys", "create"],
      ["keys", "list"],
      ["keys", "rotate"],
      ["keys", "adopt"],
      ["keys", "destroy"],
    ]) {
      expect(kmsPkcs11([...command, "--help"]).stdout, command.join(" ")).toMatch(/Example:\n +kms-pkcs11/);
    }
  });
});

it("key_ids join with kube-apiserver's own metric", async () => {
  const { keyId } = await client.status();
  expect(hashKeyId(keyId)).toBe(`sha256:${createHash("sha256").update(keyId).digest("hex")}`);
});
