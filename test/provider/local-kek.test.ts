// The local KEK: its HSM calls, its replacement, and changed ciphertexts.

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { beforeEach, describe, expect, it } from "vitest";

import { parseEnvelope } from "../../src/provider/envelope.js";
import { LOCAL_KEK_ANNOTATION, LocalKeks, type LocalKekWrapper } from "../../src/provider/local-kek.js";

let wraps: number;
let unwraps: number;
let now: number;
const kek = randomBytes(32);
const wrapper: LocalKekWrapper = {
  wrap: (keyId, localKek) => {
    wraps++;
    const iv = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", kek, iv, { authTagLength: 16 }).setAAD(Buffer.from(keyId));
    return Promise.resolve(Buffer.concat([iv, cipher.update(localKek), cipher.final(), cipher.getAuthTag()]));
  },
  unwrap: (keyId, wrapped) => {
    unwraps++;
    const decipher = createDecipheriv("aes-256-gcm", kek, wrapped.subarray(0, 12), { authTagLength: 16 });
    decipher.setAAD(Buffer.from(keyId)).setAuthTag(wrapped.subarray(-16));
    return Promise.resolve(Buffer.concat([decipher.update(wrapped.subarray(12, -16)), decipher.final()]));
  },
};
const build = (maxUses = 1 << 20, maxAgeMs = 1000): LocalKeks =>
  new LocalKeks(wrapper, { maxUses, maxAgeMs }, () => now);

type Sealed = Awaited<ReturnType<LocalKeks["seal"]>>;
const wrappedOf = (sealed: Sealed): Uint8Array =>
  sealed.annotations[LOCAL_KEK_ANNOTATION] ?? new Uint8Array();
const open = (keks: LocalKeks, keyId: string, sealed: Sealed, from = sealed): Promise<Buffer> =>
  keks.open(keyId, wrappedOf(from), parseEnvelope(sealed.ciphertext).body);

beforeEach(() => {
  wraps = 0;
  unwraps = 0;
  now = 0;
});

describe("the local KEK", () => {
  it("the local KEK costs one HSM call for many seals, and none to open them", async () => {
    const keks = build();
    const sealed = await Promise.all(Array.from({ length: 100 }, (_, at) => keks.seal("k", Buffer.of(at))));
    expect(wraps).toBe(1);
    for (const [at, one] of sealed.entries()) expect((await open(keks, "k", one))[0]).toBe(at);
    expect(unwraps).toBe(0);
  });

  it("the local KEK is replaced after its uses, after its age, and for another KEK", async () => {
    const keks = build(2);
    for (let use = 0; use < 4; use++) await keks.seal("k", Buffer.of(1));
    expect(wraps).toBe(2);
    now = 1000;
    await keks.seal("k", Buffer.of(1));
    expect(wraps).toBe(3);
    await keks.seal("other", Buffer.of(1));
    expect(wraps).toBe(4);
  });

  it("the local KEK has no more uses than its bound, however many requests wait for it", async () => {
    const keks = build(2);
    const sealed = await Promise.all(Array.from({ length: 9 }, () => keks.seal("k", Buffer.of(1))));
    expect(new Set(sealed.map((one) => String(wrappedOf(one)))).size).toBe(5);
    expect(wraps).toBe(5);
  });

  it("the local KEK is not kept if its KEK disappears while the HSM wraps or unwraps it", async () => {
    const keks = build();
    const first = keks.seal("k", Buffer.of(1));
    keks.dropKey("k");
    const sealed = await first;
    expect(keks.known("k", wrappedOf(sealed))).toBeUndefined();
    const opened = open(keks, "k", sealed);
    keks.dropKey("k");
    expect(await opened).toEqual(Buffer.of(1));
    expect(keks.known("k", wrappedOf(sealed))).toBeUndefined();
    await keks.seal("k", Buffer.of(1));
    expect(wraps).toBe(2);
  });

  it("the local KEK is forgotten when its KEK disappears under a key_id that it has got since", async () => {
    const id = "0a".repeat(16);
    const [earlier, other] = [`${id}.c${"1".repeat(32)}`, `${"0b".repeat(16)}.c${"1".repeat(32)}`];
    const keks = build();
    const [one, another] = [await keks.seal(earlier, Buffer.of(1)), await keks.seal(other, Buffer.of(1))];
    keks.dropKey(`${id}.n`);
    expect(keks.known(earlier, wrappedOf(one))).toBeUndefined();
    expect(keks.known(other, wrappedOf(another))).toBeDefined();
  });

  it("the local KEK opens another node's seeds with one HSM call for each local KEK", async () => {
    const there = build();
    const sealed = await Promise.all(Array.from({ length: 20 }, () => there.seal("k", Buffer.from("seed"))));
    const here = build();
    const opened = await Promise.all(sealed.map((one) => open(here, "k", one)));
    expect(opened.every((one) => one.toString() === "seed")).toBe(true);
    expect(unwraps).toBe(1);
    // No process seals under a local KEK that another process has made, since each counts its own uses only.
    const { annotations } = await here.seal("k", Buffer.from("seed"));
    expect(annotations).not.toEqual(sealed[0]?.annotations);
  });

  it("the local KEK refuses a swapped annotation, a changed body and another key_id", async () => {
    const keks = build(1);
    const [one, other] = [await keks.seal("k", Buffer.from("a")), await keks.seal("k", Buffer.from("b"))];
    await expect(open(keks, "k", one, other)).rejects.toMatchObject({ code: "NOT_AUTHENTIC" });
    const changed = { ...one, ciphertext: Buffer.from(one.ciphertext) };
    changed.ciphertext[20] = (changed.ciphertext[20] ?? 0) ^ 1;
    await expect(open(keks, "k", changed)).rejects.toMatchObject({ code: "NOT_AUTHENTIC" });
    await expect(open(keks, "other", one)).rejects.toThrow();
  });

  it("the local KEK takes less than 160 bytes in an annotation that Kubernetes accepts", async () => {
    const { annotations } = await build().seal("k", Buffer.from("a"));
    const [[name, value] = ["", new Uint8Array()]] = Object.entries(annotations);
    expect(name).toMatch(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/);
    expect(name.length + value.length).toBeLessThan(160);
  });
});
