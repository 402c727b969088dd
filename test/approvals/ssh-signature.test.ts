// Signatures of SSH: which are accepted, which are refused and why, and that no altered one is accepted.

import { readFileSync } from "node:fs";

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { readKey, readKeyLine, type SshKey } from "../../src/approvals/ssh-key.js";
import { verifySignature } from "../../src/approvals/ssh-signature.js";
import { wireString } from "../../src/approvals/wire-reader.js";
import { armour, sshSigner, unarmoured } from "../support/ssh-signer.js";

interface Vector {
  readonly key: string;
  readonly signature: string;
  readonly problem?: string;
}

const VECTORS = JSON.parse(
  readFileSync(new URL("../vectors/ssh-signatures.json", import.meta.url), "utf8"),
) as {
  readonly message: string;
  readonly accepted: Record<string, Vector>;
  readonly refused: Record<string, Vector & { readonly problem: string }>;
};
const MESSAGE = Buffer.from(VECTORS.message);

const altered = (text: string, change: (bytes: Buffer) => Uint8Array): string =>
  armour(change(unarmoured(text)));

describe("a signature made by ssh-keygen", () => {
  it.each(Object.entries(VECTORS.accepted))(
    "a signature by ssh-keygen is accepted: %s",
    (_name, { key, signature }) => {
      expect(verifySignature(signature, MESSAGE).key.value).toBe(readKeyLine(key).value);
    },
  );

  it.each(Object.entries(VECTORS.refused))(
    "a signature by ssh-keygen is refused: %s",
    (_name, { signature, problem }) => {
      expect(() => verifySignature(signature, MESSAGE)).toThrow(problem);
    },
  );

  it.each(Object.entries(VECTORS.accepted))(
    "a signature by ssh-keygen does not cover another message: %s",
    (_name, { signature }) => {
      expect(() => verifySignature(signature, Buffer.from("another"))).toThrow("does not match");
    },
  );
});

describe("a security key", () => {
  const TYPES = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"] as const;

  it.each(TYPES)("a security key's signature has flags and counter: %s", (type) => {
    const { touch } = verifySignature(sshSigner(type).sign(MESSAGE, { flags: 1 }), MESSAGE);
    expect(touch).toMatchObject({ isPresent: true, isVerified: false, counter: 7 });
  });

  it.each(TYPES)("a security key must have been touched: %s", (type) => {
    const signature = sshSigner(type).sign(MESSAGE, { flags: 4 });
    expect(() => verifySignature(signature, MESSAGE)).toThrow("nobody touched");
  });

  it.each(TYPES)("a security key cannot claim a touch that it did not sign: %s", (type) => {
    const signature = sshSigner(type).sign(MESSAGE, { flags: 0 });
    const forged = altered(signature, (bytes) => {
      bytes.writeUInt8(5, bytes.length - 5);
      return bytes;
    });
    expect(() => verifySignature(forged, MESSAGE)).toThrow("does not match");
  });

  it("a security key with flags that announce extensions is refused", () => {
    const signature = sshSigner(TYPES[0]).sign(MESSAGE, { flags: 0x81 });
    expect(() => verifySignature(signature, MESSAGE)).toThrow("unknown flags");
  });

  it("a security key must have been registered for SSH", () => {
    const signature = sshSigner(TYPES[0], "https://example.com").sign(MESSAGE);
    expect(() => verifySignature(signature, MESSAGE)).toThrow("another application");
  });
});

describe("the reader of signatures", () => {
  const signer = sshSigner();
  const good = signer.sign(MESSAGE);

  it.each([
    ["another namespace", signer.sign(MESSAGE, { namespace: "file" }), 'made for "file"'],
    ["no namespace", signer.sign(MESSAGE, { namespace: "" }), "made for"],
    ["SHA-1", signer.sign(MESSAGE, { hash: "sha1" }), '"sha1" is not'],
    ["a reserved field", signer.sign(MESSAGE, { reserved: "x" }), "reserved"],
    ["another algorithm", signer.sign(MESSAGE, { algorithm: "ssh-rsa" }), "do not belong"],
    ["two signatures", good + good, "not an armoured"],
    ["text before it", `x\n${good}`, "not an armoured"],
    ["carriage returns", good.replaceAll("\n", "\r\n"), "not an armoured"],
    ["a longer text", good + "x".repeat(10_000), "too long"],
    ["a trailing byte", altered(good, (bytes) => Buffer.concat([bytes, Buffer.alloc(1)])), "follow its end"],
    ["a missing byte", altered(good, (bytes) => bytes.subarray(0, -1)), "truncated"],
    ["nothing", "", "not an armoured"],
  ])("a signature is refused: %s", (_name, signature, problem) => {
    expect(() => verifySignature(signature, MESSAGE)).toThrow(problem);
  });

  it("a signature in base64 that is not canonical is refused", () => {
    const padded = Object.values(VECTORS.accepted).find(({ signature }) => signature.includes("=\n"));
    const text = padded?.signature ?? "";
    const odd = text.replace(/(.)(={1,2}\n-----END)/, (_all, last: string, end: string) => {
      return String.fromCharCode(last.charCodeAt(0) + 1) + end;
    });
    expect(odd).not.toBe(text);
    expect(unarmoured(odd)).toEqual(unarmoured(text));
    expect(() => verifySignature(odd, MESSAGE)).toThrow("canonical");
  });

  it.each([
    ["zero", "00".repeat(32)],
    ["one", `01${"00".repeat(31)}`],
    ["order eight", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"],
    ["a coordinate that is not reduced", `ee${"ff".repeat(30)}7f`],
  ])("an ed25519 key of small order is refused: %s", (_name, point) => {
    const key = Buffer.concat([wireString("ssh-ed25519"), wireString(Buffer.from(point, "hex"))]);
    expect(() => readKey(key)).toThrow("small order");
  });

  it("an ecdsa key that is not a point of its curve is refused", () => {
    const point = Buffer.concat([Buffer.from([4]), Buffer.alloc(64, 1)]);
    const key = Buffer.concat(["ecdsa-sha2-nistp256", "nistp256", point].map((part) => wireString(part)));
    expect(() => readKey(key)).toThrow("not a point");
  });

  it.each([
    "ssh-dss AAAA",
    "ssh-ed25519",
    'command="x" ssh-ed25519 AAAA',
    "ssh-ed25519 AAAA\nssh-ed25519 AAAA",
  ])("the key line %j is refused", (line) => {
    expect(() => readKeyLine(line)).toThrow(KmsError);
  });

  it("none of 10,000 altered signatures is accepted, and each ends in a refusal", () => {
    const originals = Object.values(VECTORS.accepted);
    const alteration = fc.record({
      which: fc.nat(originals.length - 1),
      at: fc.nat(4_000),
      kind: fc.constantFrom("change", "insert", "remove", "cut", "repeat"),
      value: fc.integer({ min: 1, max: 255 }),
    });
    fc.assert(
      fc.property(alteration, ({ which, at, kind, value }) => {
        const original = originals[which] as Vector;
        const bytes = unarmoured(original.signature);
        const place = at % bytes.length;
        const [before, after] = [bytes.subarray(0, place), bytes.subarray(place)];
        const changed = {
          change: () => Buffer.concat([before, Buffer.from([(after[0] ?? 0) ^ value]), after.subarray(1)]),
          insert: () => Buffer.concat([before, Buffer.from([value]), after]),
          remove: () => Buffer.concat([before, after.subarray(1)]),
          cut: () => before,
          repeat: () => Buffer.concat([bytes, after]),
        }[kind]();
        let key: SshKey | undefined;
        try {
          ({ key } = verifySignature(armour(changed), MESSAGE));
        } catch (error) {
          return error instanceof KmsError && error.code === "NOT_APPROVED";
        }
        return key.value !== readKeyLine(original.key).value;
      }),
      { numRuns: 10_000 },
    );
  });

  it("a verified signature names its key", () => {
    expect(verifySignature(good, MESSAGE).key.value).toBe(readKeyLine(signer.line).value);
  });
});
