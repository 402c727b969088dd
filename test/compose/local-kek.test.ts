// The plugin in mode local-kek, and the number of HSM calls in both modes, as a process on a real SoftHSM token.

import { randomBytes } from "node:crypto";
import { renameSync, rmSync, writeFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { LOCAL_KEK_ANNOTATION } from "../../src/provider/local-kek.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { childrenOf, type PluginSettings } from "../support/plugin-process.js";
import type { ReachablePlugin } from "../support/reachable-plugin.js";
import { waitFor } from "../support/wait.js";

/** Only requests call the HSM, and each calls it once: no proof, and no hedged request on a busy machine. */
const QUIET = {
  health: { proofInterval: "10m" },
  keys: { refreshInterval: "5m" },
  hsm: { hosts: 1, requestTimeout: "2900ms" },
};
const PATIENCE_MS = 20_000;

const local = usePlugin({ ...QUIET, mode: "local-kek", log: { level: "debug" } });

async function another(settings: PluginSettings): Promise<ReachablePlugin> {
  const one = await local.add({ ...QUIET, ...settings });
  await one.start();
  return one;
}

/** Returns the number of HSM calls so far, for encrypt and for decrypt. */
async function hsmCalls(one: ReachablePlugin): Promise<readonly [number, number]> {
  const text = await (await one.get("/metrics")).text();
  const count = (operation: string): number =>
    [
      ...text.matchAll(
        new RegExp(`^kms_pkcs11_hsm_calls_total\\{operation="${operation}",.*\\} (\\d+)$`, "gm"),
      ),
    ]
      .map(([, value]) => Number(value))
      .reduce((sum, value) => sum + value, 0);
  return [count("encrypt"), count("decrypt")];
}

async function callsOf(running: ReachablePlugin, work: () => Promise<unknown>): Promise<readonly number[]> {
  const [encrypts, decrypts] = await hsmCalls(running);
  await work();
  const after = await hsmCalls(running);
  return [after[0] - encrypts, after[1] - decrypts];
}

it("/readyz reports a replaced socket file, and the plugin binds a removed one again", async () => {
  const { socket } = local.plugin;
  const readyz = async (): Promise<readonly [number, string]> => {
    const answer = await local.own.get("/readyz");
    return [answer.status, await answer.text()];
  };
  renameSync(socket, `${socket}.aside`);
  writeFileSync(socket, "");
  const [status, text] = await readyz();
  expect(status).toBe(503);
  expect(text).toContain(`${socket}: kube-apiserver cannot reach this plugin`);
  rmSync(`${socket}.aside`);
  rmSync(socket);
  await waitFor(async () => (await readyz())[0] === 200, { what: "the socket" });
  const client = new KmsClient(socket, PATIENCE_MS);
  expect((await client.status()).healthz).toBe("ok");
  client.close();
  await waitFor(() => local.plugin.log.includes("clients can connect again"), { what: "the log line" });
  expect(local.plugin.log).toMatch(/"level":"error".*kube-apiserver cannot reach this plugin/);
});

describe("mode local-kek", () => {
  it("local-kek: refuses to encrypt nothing, and more than 768 bytes", async () => {
    for (const length of [0, 769]) {
      await expect(local.client.encrypt(Buffer.alloc(length), "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
    }
  });

  it("local-kek: decrypts another process's ciphertexts, but not with swapped annotations", async () => {
    const other = await another({ mode: "local-kek" });
    const here = await local.client.encrypt(Buffer.from("here"), "u");
    const there = await other.client.encrypt(Buffer.from("there"), "u");
    expect(String(await local.client.decrypt(there, "u"))).toBe("there");
    for (const swapped of [
      { ...here, annotations: there.annotations },
      { ...there, annotations: here.annotations },
    ]) {
      await expect(local.client.decrypt(swapped, "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
    }
    const { keyId } = await other.client.status();
    await other.restart();
    expect((await other.client.status()).keyId).toBe(keyId);
    expect(String(await other.client.decrypt(there, "u"))).toBe("there");
  });
});

describe("HSM calls", () => {
  const seal = (client: KmsClient, count: number): Promise<KmsCiphertext[]> =>
    Promise.all(Array.from({ length: count }, () => client.encrypt(randomBytes(32), "u")));
  const openAll = (client: KmsClient, sealed: readonly KmsCiphertext[]): Promise<Buffer[]> =>
    Promise.all(sealed.map((one) => client.decrypt(one, "u")));

  it("local-kek: calls the HSM once for each foreign local KEK, never for its own", async () => {
    const sealed = await seal(local.client, 1);
    expect(await callsOf(local.own, () => seal(local.client, 50))).toEqual([0, 0]);
    expect(await callsOf(local.own, () => openAll(local.client, sealed))).toEqual([0, 0]);
    const other = await another({ mode: "local-kek" });
    const foreign = await seal(other.client, 50);
    expect(await callsOf(local.own, () => openAll(local.client, foreign))).toEqual([0, 1]);
  });

  it("direct: calls the HSM for each Encrypt and foreign seed, not for cached or bad ones", async () => {
    const [direct, other] = [await another({}), await another({})];
    let own: KmsCiphertext[] = [];
    expect(await callsOf(direct, async () => (own = await seal(direct.client, 10)))).toEqual([10, 0]);
    expect(await callsOf(direct, () => openAll(direct.client, own))).toEqual([0, 0]);
    const sealed = await seal(other.client, 10);
    const [first] = sealed;
    if (first === undefined) throw new Error("nothing was sealed");
    const crowd = Array.from({ length: 20 }, () => first);
    expect(await callsOf(direct, () => openAll(direct.client, crowd))).toEqual([0, 1]);
    expect(await callsOf(direct, () => openAll(direct.client, sealed))).toEqual([0, 9]);
    expect(await callsOf(direct, () => openAll(direct.client, sealed))).toEqual([0, 0]);
    const bad = [
      { ...first, ciphertext: Buffer.alloc(40, 9) },
      { ...first, keyId: "00.c0" },
      { ...first, annotations: { "a.example": Buffer.of(1) } },
    ];
    const refused = (): Promise<unknown> =>
      Promise.allSettled(bad.map((one) => direct.client.decrypt(one, "u")));
    expect(await callsOf(direct, refused)).toEqual([0, 0]);
    expect(await callsOf(direct, () => direct.client.status())).toEqual([0, 0]);
  });
});

describe("the HTTP endpoints of the process", () => {
  it("the HTTP endpoints show the keys, readiness and the number of requests", async () => {
    const { keyId } = await local.client.status();
    const keys = (await (await local.own.get("/keys")).json()) as { activeKeyId: string; keys: object[] };
    expect(keys).toMatchObject({ activeKeyId: keyId, keys: [{ keyId, state: "active", failure: null }] });
    const ready = await local.own.get("/readyz");
    expect([ready.status, await ready.text()]).toEqual([200, "ok\n"]);
    const text = await (await local.own.get("/metrics")).text();
    expect(text).toMatch(/^kms_pkcs11_requests_total\{operation="Encrypt",code="INVALID_ARGUMENT"\} 2$/m);
    expect(text).toContain("kms_pkcs11_hsm_up 1");
  });
});

describe("what the process says", () => {
  it("log, errors and metrics never contain plaintext, ciphertext, annotation or PIN", async () => {
    const { client, plugin } = local;
    const plaintext = randomBytes(32);
    const sealed = await client.encrypt(plaintext, "words");
    await client.decrypt(sealed, "words");
    const garbled = { ...sealed, ciphertext: Buffer.concat([sealed.ciphertext, plaintext]) };
    const errors = [
      await client.decrypt(garbled, "words").then(() => "", String),
      await client.decrypt({ ...sealed, annotations: { x: plaintext } }, "words").then(() => "", String),
      await client.encrypt(Buffer.alloc(769, plaintext), "words").then(() => "", String),
    ];
    await waitFor(() => plugin.log.includes('"uid":"words"'), { what: "the log of the requests" });
    const words = [plugin.log, ...errors].join("\n");
    const said = words + (await (await local.own.get("/metrics")).text());
    const wrapped = sealed.annotations[LOCAL_KEK_ANNOTATION] ?? Buffer.alloc(0);
    for (const secret of [plaintext, sealed.ciphertext.subarray(2), wrapped.subarray(15)]) {
      for (const form of ["hex", "base64", "base64url", "latin1", "utf8"] as const) {
        expect(said).not.toContain(secret.subarray(0, 24).toString(form));
      }
    }
    expect(said).not.toContain(JSON.stringify([...plaintext]).slice(1, 30));
    expect(words).not.toMatch(new RegExp(`["'\\s:]${local.token.pin}["'\\s]`));
  });

  it("the log has one JSON line per event, a changed Status once, and no debugger address", async () => {
    const { pid = 0 } = local.plugin;
    for (const one of [pid, ...childrenOf(pid)]) process.kill(one, "SIGUSR1");
    for (let turn = 0; turn < 20; turn++) await local.client.status();
    const entries = local.plugin.log
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { msg: string; healthz?: string });
    expect(entries.filter(({ msg, healthz }) => msg === "Status changed" && healthz === "ok")).toHaveLength(
      1,
    );
  });
});
