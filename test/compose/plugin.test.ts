// The plugin as kube-apiserver uses it: a process on a real SoftHSM token, called through its socket.

import { createHash, randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { connect } from "node:net";

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { hashKeyId } from "../../src/observability/scraped-metrics.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { kmsPkcs11 } from "../support/plugin-process.js";
import { waitFor } from "../support/wait.js";

const kms = usePlugin({ log: { level: "debug" }, cache: { entries: 100 } });

const changed = (sealed: KmsCiphertext, at: number, bit = 1): KmsCiphertext => {
  const ciphertext = Buffer.from(sealed.ciphertext);
  ciphertext[at] = (ciphertext[at] ?? 0) ^ bit;
  return { ...sealed, ciphertext };
};

describe("Encrypt and Decrypt", () => {
  it("the plugin round trips every length from 1 to 768 bytes", async () => {
    const lengths = Array.from({ length: 768 }, (_, at) => at + 1);
    const caller = async (): Promise<void> => {
      for (let length = lengths.pop(); length !== undefined; length = lengths.pop()) {
        const plaintext = randomBytes(length);
        const sealed = await kms.client.encrypt(plaintext, "length");
        expect(sealed.ciphertext.length).toBeLessThan(1024);
        expect((await kms.client.decrypt(sealed, "length")).equals(plaintext)).toBe(true);
      }
    };
    await Promise.all(Array.from({ length: 16 }, caller));
  });

  it.each([0, 769, 40_000])("the plugin refuses a plaintext of %i bytes", async (length) => {
    await expect(kms.client.encrypt(Buffer.alloc(length), "u")).rejects.toThrow(
      /^INVALID_ARGUMENT.*1 to 768/,
    );
  });

  it("the plugin answers with the key_id of Status", async () => {
    const { keyId, version, healthz } = await kms.client.status();
    expect([version, healthz]).toEqual(["v2", "ok"]);
    expect((await kms.client.encrypt(randomBytes(32), "u")).keyId).toBe(keyId);
  });

  it("the plugin makes different ciphertexts of one plaintext", async () => {
    const sealed = await Promise.all(
      Array.from({ length: 50 }, () => kms.client.encrypt(Buffer.alloc(32), "u")),
    );
    expect(new Set(sealed.map((one) => one.ciphertext.toString("hex"))).size).toBe(50);
  });

  it("the plugin refuses a ciphertext with any one byte changed", async () => {
    const sealed = await kms.client.encrypt(randomBytes(32), "u");
    for (let at = 0; at < sealed.ciphertext.length; at++) {
      await expect(kms.client.decrypt(changed(sealed, at, 1 << (at % 8)), "u"), `byte ${at}`).rejects.toThrow(
        /^INVALID_ARGUMENT/,
      );
    }
    await expect(kms.client.decrypt(sealed, "u")).resolves.toHaveLength(32);
  });

  it("the plugin refuses shorter and longer ciphertexts, other key_ids, foreign annotations", async () => {
    const sealed = await kms.client.encrypt(randomBytes(32), "u");
    const { ciphertext } = sealed;
    const refuse = async (question: KmsCiphertext, how: RegExp): Promise<void> => {
      await expect(kms.client.decrypt(question, "u")).rejects.toThrow(how);
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

  it("the plugin answers any bytes with a domain error, and stays up", async () => {
    const { keyId } = await kms.client.status();
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
      const answer = kms.client.decrypt({ ciphertext: Buffer.from(ciphertext), ...rest }, "fuzz");
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
    expect((await kms.client.status()).healthz).toBe("ok");
  });

  it("the plugin serves several connections at once, and survives garbage on others", async () => {
    const others = [1, 2, 3].map(() => new KmsClient(kms.plugin.socket));
    for (const garbage of [
      randomBytes(4000),
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\xff".repeat(99), "latin1"),
    ]) {
      const raw = connect(kms.plugin.socket);
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
  it("the log has the uid and key_id of a request on one JSON line, and no data", async () => {
    const plaintext = randomBytes(32);
    const sealed = await kms.client.encrypt(plaintext, "uid-in-the-log");
    await kms.client.decrypt(sealed, "uid-in-the-log");
    interface Entry {
      readonly uid?: string;
      readonly keyId?: string;
      readonly healthz?: string;
      readonly msg: string;
    }
    const { entries, ours } = await waitFor(() => {
      // The log is written in the background: its last line may not be whole yet.
      const lines = kms.plugin.log.trim().split("\n");
      const all = lines.map((line) => JSON.parse(line) as Entry);
      const asked = all.filter(({ uid }) => uid === "uid-in-the-log");
      return asked.length >= 2 && { entries: all, ours: asked };
    });
    expect(ours.map(({ msg, keyId }) => [msg, keyId])).toEqual([
      ["Encrypt", sealed.keyId],
      ["Decrypt", sealed.keyId],
    ]);
    for (const secret of [plaintext, sealed.ciphertext, Buffer.from(`"${kms.token.pin}"`)]) {
      for (const form of ["hex", "base64", "latin1"] as const) {
        expect(kms.plugin.log).not.toContain(secret.toString(form));
      }
    }
    const changes = entries.filter(({ msg }) => msg === "Status changed");
    expect(changes.filter(({ healthz }) => healthz === "ok")).toHaveLength(1);
  });
});

describe("the socket", () => {
  it("the plugin's socket is accessible to its user alone", () => {
    expect(statSync(kms.plugin.socket).mode & 0o777).toBe(0o600);
  });

  it("the plugin's socket is not taken from a live plugin, whose key_id is reported", async () => {
    const { keyId } = await kms.client.status();
    const second = kmsPkcs11(["serve", "--config", kms.plugin.configFile], kms.token.env);
    expect(second.code).toBe(2);
    expect(second.stderr).toContain(`in use: a KMS plugin answers there with key_id ${keyId}`);
    expect((await kms.client.status()).keyId).toBe(keyId);
  });
});

it("key_ids join with kube-apiserver's own metric", async () => {
  const { keyId } = await kms.client.status();
  expect(hashKeyId(keyId)).toBe(`sha256:${createHash("sha256").update(keyId).digest("hex")}`);
});
